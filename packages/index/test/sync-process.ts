// A sync in a process of its own, to be killed: node sync-process.ts STORE REGISTRY PINS.json. Prints how many are done.
import { readFileSync } from 'node:fs'

import { openStore } from '@polder/store'

import type { PinRequest } from '../src/pins/pin.ts'
import { syncPins } from '../src/pins/sync.ts'
import { npmConfig } from './npm-config.ts'

const [home = '', registry = '', pins = ''] = process.argv.slice(2)
await syncPins(openStore(home), JSON.parse(readFileSync(pins, 'utf8')) as PinRequest[], {
  root: '/',
  npm: async () => npmConfig(registry),
  onProgress: ({ done }) => process.stdout.write(`${done}\n`),
})
