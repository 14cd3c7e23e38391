// chalk 5 is an ES module and berths and customs need chalk 4: the one name that cannot be unified. This service has
// both, the older one under the name `old-chalk`.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'

import chalk from 'chalk'
import createDebug from 'debug'
import mqtt from 'mqtt-packet'
import oldChalk from 'old-chalk'

// By the name it is installed under, wherever that leads: pnpm keeps `old-chalk` in a directory called chalk.
const manifestOf = (name) => {
  let directory = new URL('.', import.meta.resolve(name))
  const nameless = () => !existsSync(new URL('package.json', directory)) || readManifest(directory).name === undefined
  while (nameless()) directory = new URL('..', directory)
  return readManifest(directory)
}
const readManifest = (directory) => JSON.parse(readFileSync(new URL('package.json', directory), 'utf8'))

const sent = mqtt.generate({
  cmd: 'publish',
  topic: 'quay/crane-3/load',
  payload: '17.2 t',
  qos: 0,
  dup: false,
  retain: false,
})
const parser = mqtt.parser()
let received
parser.on('packet', (packet) => (received = packet))
parser.parse(sent)
assert.equal(received.payload.toString(), '17.2 t')

assert.equal(createDebug('cranes').namespace, 'cranes')
assert.equal(typeof chalk.red, 'function')
assert.equal(typeof oldChalk.red, 'function')
assert.notEqual(manifestOf('chalk').version, manifestOf('old-chalk').version)
assert.equal(manifestOf('old-chalk').name, 'chalk')

console.log(
  JSON.stringify({
    service: 'cranes',
    loaded: {
      chalk: manifestOf('chalk').version,
      debug: manifestOf('debug').version,
      'mqtt-packet': manifestOf('mqtt-packet').version,
      'old-chalk': manifestOf('old-chalk').version,
    },
  }),
)
