// bcrypt is a native addon: what loads it is the library that its install script found, or made, for this machine.
const assert = require('node:assert/strict')

const { hashCode, isWeak, opens } = require('./codes.cjs')

// From the test vectors of bcrypt itself: another implementation made this one.
const KNOWN = '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'

async function main() {
  assert.equal(await opens('U*U', KNOWN), true)
  assert.equal(await opens('U*V', KNOWN), false)
  assert.equal(isWeak(KNOWN), true)

  const hash = await hashCode('4711', 6)
  assert.match(hash, /^\$2b\$06\$[./A-Za-z0-9]{53}$/)
  assert.equal(await opens('4711', hash), true)
  assert.equal(await opens('4711', 'no hash'), false)

  process.report.excludeNetwork = true
  const addon = process.report.getReport().sharedObjects.find((path) => /\/bcrypt[^/]*\.node$/.test(path))
  assert.ok(addon, 'the addon is not loaded')

  console.log(
    JSON.stringify({
      service: 'gatehouse',
      loaded: { bcrypt: require('bcrypt/package.json').version },
      addon: addon.slice(addon.lastIndexOf('/') + 1),
    }),
  )
}

void main()
