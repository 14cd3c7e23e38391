// The process that lives in the namespaces of a cell: sets the network up, records, and starts the builds in it, one
// at a time. Started by cell.ts.
import { execFileSync } from 'node:child_process'
import { chmodSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { startBuild, type RunningBuild } from './confined-build.ts'
import { closeInherited } from './descriptors.ts'
import { HOSTNAME } from './file-system.ts'
import { startIndexBridge, type IndexBridge } from '../egress/index-bridge.ts'
import type { CellBuild, CellConfig, CellReady, CellReply, CellRequest } from './protocol.ts'
import { startRecorder, type Recorder } from '../egress/recorder.ts'

closeInherited()

const say = (message: CellReady | CellReply): void => {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

interface Cell {
  readonly config: CellConfig
  readonly bridge: IndexBridge
  readonly recorder: Recorder | undefined
}

let cell: Cell | undefined
let running: RunningBuild | undefined

const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  if (cell === undefined) start(JSON.parse(line) as CellConfig).catch(fail)
  else {
    const request = JSON.parse(line) as CellRequest
    if ('kill' in request) running?.kill()
    else run(cell, request.run).then(say, fail)
  }
})
// Polder has ended, or been killed: we are the first process of the namespace, and all others end with us.
lines.on('close', () => {
  running?.kill()
  process.exit()
})

async function start(config: CellConfig): Promise<void> {
  execFileSync(config.programs.mkfifo ?? 'mkfifo', [join(config.scratch, 'output')])
  chmodSync(join(config.scratch, 'output'), 0o666)
  const enforced = config.level !== 'unenforced'
  if (enforced) {
    proveNamespaces(config)
    nameHost()
  }
  if (enforced && config.ownUser) writeFileSync('/proc/sys/user/max_user_namespaces', '0')
  const recorder = enforced ? await startRecorder(config.programs) : undefined
  const bridge = await startIndexBridge(config.indexPort)
  cell = { config, bridge, recorder }
  const incomplete = recorder?.incomplete
  say({ ready: true, indexPort: bridge.port, ...(incomplete === undefined ? {} : { incomplete }) })
}

async function run({ config, bridge, recorder }: Cell, build: CellBuild): Promise<CellReply> {
  recorder?.begin()
  bridge.lead(build.socket)
  try {
    running = startBuild(config, build)
  } catch (error) {
    return { failed: (error as Error).message }
  }
  const { began, diskFull, ...ended } = await running.ended
  running = undefined
  bridge.lead(undefined)
  const attempts = await recorder?.finish()
  if (diskFull === true) return { failed: 'ENOSPC: the build found no space left' }
  if (!began && ended.limit === undefined)
    return { failed: ended.tail.trim() || `it ended with ${ended.status ?? ended.signal}` }
  return { ended: { ...ended, attempts: attempts?.list() ?? [], moreAttempts: attempts?.dropped() ?? 0 } }
}

/** What follows would change the network of whoever is in this namespace. */
function proveNamespaces({ outside }: CellConfig): void {
  for (const [kind, theirs] of Object.entries(outside)) {
    if (readlinkSync(`/proc/self/ns/${kind}`) === theirs)
      throw new Error(`the cell has no ${kind} namespace of its own`)
  }
}

/** Builds inherit it. That it shows is not what keeps anything in. */
function nameHost(): void {
  try {
    execFileSync('hostname', [HOSTNAME], { stdio: 'ignore', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
  } catch {
    // Not every system has the program.
  }
}

/** Without a way to go on: what is wrong goes to stderr, which polder quotes. */
function fail(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}
