// A server in a process of its own, without memory for bodies: node --expose-gc serving-process.ts STORE LOCK.json. It
// says where it listens; asked for anything, it collects what nobody needs and says which files of the store are open.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'

import type { Lock } from '@polder/lock'
import { openStore } from '@polder/store'

import { openIndex, startIndexServer } from '../src/serve/server.ts'

const [home = '', path = ''] = process.argv.slice(2)
const lock = JSON.parse(readFileSync(path, 'utf8')) as Lock
const index = openIndex(openStore(home), [{ id: 'lock', lock }], { memoryBytes: 0 })
const { address } = await startIndexServer(index, { listen: { host: '127.0.0.1', port: 0 } })
process.on('message', () => {
  void collected().then((open) => process.send?.({ open }))
})
process.send?.({ address })

async function collected(): Promise<readonly string[]> {
  for (let round = 0; round < 10; round += 1) {
    globalThis.gc?.()
    await setImmediate()
  }
  return readdirSync('/proc/self/fd').flatMap((file) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${file}`)
      return target.startsWith(home) ? [target] : []
    } catch {
      // That of the directory itself.
      return []
    }
  })
}
