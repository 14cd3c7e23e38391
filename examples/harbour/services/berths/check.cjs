// CommonJS throughout: it cannot move on to chalk 5, which is an ES module.
const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')

const chalk = require('chalk')
const createDebug = require('debug')
const nodeUuid = require('node-uuid')
const semver = require('semver')

const versionOf = (name) => require(`${name}/package.json`).version

assert.equal(typeof chalk.red, 'function')
assert.match(createDebug('berths').namespace, /^berths$/)
assert.match(nodeUuid.v4(), /^[0-9a-f-]{36}$/)
assert.ok(semver.satisfies(semver.coerce('pier 5.1').version, '^5.1.0'))

// Customs declares another package with a `uuid` command. Inside this service the command is node-uuid's.
const usage = execFileSync('uuid', ['--help'], { encoding: 'utf8' })
assert.match(usage, /^\s*USAGE: uuid \[version\]/, `the command "uuid" is not node-uuid's: ${usage}`)

console.log(
  JSON.stringify({
    service: 'berths',
    loaded: {
      chalk: versionOf('chalk'),
      debug: versionOf('debug'),
      'node-uuid': versionOf('node-uuid'),
      semver: versionOf('semver'),
    },
    commands: { uuid: 'node-uuid' },
  }),
)
