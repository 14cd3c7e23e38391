const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { readFileSync } = require('node:fs')

const { v4: short } = require('@lukeed/uuid')
const chalk = require('chalk')
const semver = require('semver')
const { v4, version } = require('uuid')

const versionOf = (name) => {
  const entry = require.resolve(name)
  const start = entry.lastIndexOf(`/node_modules/${name}/`)
  return JSON.parse(readFileSync(`${entry.slice(0, start)}/node_modules/${name}/package.json`, 'utf8')).version
}

assert.equal(typeof chalk.red, 'function')
assert.equal(version(v4()), 4)
assert.equal(version(short()), 4)
assert.ok(semver.gt('2.0.0', '1.9.9'))

// See the check of berths, which has the other `uuid` command.
const usage = execFileSync('uuid', ['--help'], { encoding: 'utf8' })
assert.match(usage, /^Usage:/, `the command "uuid" is not uuid's own: ${usage}`)

console.log(
  JSON.stringify({
    service: 'customs',
    loaded: {
      '@lukeed/uuid': versionOf('@lukeed/uuid'),
      chalk: versionOf('chalk'),
      semver: versionOf('semver'),
      uuid: versionOf('uuid'),
    },
    commands: { uuid: 'uuid' },
  }),
)
