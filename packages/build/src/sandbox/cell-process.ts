// The process that lives in the namespaces of a cell: starts the builds in it, one at a time, and records what each tries
// to reach. Started by cell.ts.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readlinkSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { startBuild, type RunningBuild } from './confined-build.ts'
import { closeInherited } from './descriptors.ts'
import { HOSTNAME } from './file-system.ts'
import type { AttemptList } from '../egress/attempts.ts'
import { bridgeIndex, type IndexBridge } from '../egress/index-bridge.ts'
import { receiveNetwork, type Network } from '../egress/network.ts'
import { INDEX_PORT, writeNetworkFiles } from '../egress/own-network.ts'
import { recordAttempts } from '../egress/recorder.ts'
import type { CellBuild, CellConfig, CellReady, CellReply, CellRequest } from './protocol.ts'

closeInherited()

const say = (message: CellReady | CellReply): void => {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

interface Cell {
  readonly config: CellConfig
  /** Of builds that are not confined, which share our network. */
  readonly bridge: IndexBridge | undefined
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
  if (enforced) {
    writeNetworkFiles(config.scratch)
    cell = { config, bridge: undefined }
    return say({ ready: true, indexPort: INDEX_PORT })
  }
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  cell = { config, bridge: bridgeIndex(server) }
  say({ ready: true, indexPort: (server.address() as AddressInfo).port })
}

async function run({ config, bridge }: Cell, build: CellBuild): Promise<CellReply> {
  bridge?.lead(build.socket)
  try {
    running = startBuild(config, build)
  } catch (error) {
    return { failed: (error as Error).message }
  }
  const network = bridge === undefined ? await receiveNetwork(running.child, config.programs) : undefined
  const recorded = network === undefined ? undefined : await runIn(network, running, build)
  const { began, diskFull, ...ended } = await running.ended
  running = undefined
  bridge?.lead(undefined)
  if (diskFull === true) return { failed: 'ENOSPC: the build found no space left' }
  if (recorded !== undefined && 'failed' in recorded) return recorded
  if (!began && ended.limit === undefined)
    return { failed: ended.tail.trim() || `it ended with ${ended.status ?? ended.signal}` }
  const incomplete = network?.incomplete
  return {
    ended: {
      ...ended,
      attempts: recorded?.list() ?? [],
      moreAttempts: recorded?.dropped() ?? 0,
      ...(incomplete === undefined ? {} : { incomplete }),
    },
  }
}

/** Lets a build go on in its network, and gives what it tried there. */
async function runIn(
  network: Network,
  { ended, kill }: RunningBuild,
  { socket, everything }: CellBuild,
): Promise<AttemptList | { readonly failed: string }> {
  const index = bridgeIndex(network.index)
  index.lead(socket)
  const attempts = recordAttempts(network)
  const { incomplete } = network
  const failed =
    everything && incomplete !== undefined ? `addresses cannot be recorded in it: ${incomplete}` : undefined
  if (failed === undefined) network.enter()
  else kill()
  try {
    await ended
    index.lead(undefined)
    const list = await attempts()
    return failed === undefined ? list : { failed }
  } finally {
    network.close()
  }
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
