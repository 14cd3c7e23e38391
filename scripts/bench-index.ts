// polder's index server beside nginx and verdaccio, see USAGE. All three hold the same pins and take turns. wrk makes the load
// (Debian: apt-get install wrk nginx-light); verdaccio comes from npm on demand.
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

import { startRegistry } from '../test/support/registry.ts'
import { commandLine, wrongUsage } from './benchmark/command-line.ts'
import { type IndexServer, startNginx, startPolder, startVerdaccio } from './benchmark/index-servers.ts'
import { load, type Load, peakMb } from './benchmark/load.ts'
import { measure, type Measurement } from './benchmark/measure.ts'
import { startPinRegistry } from './benchmark/pin-registry.ts'
import { sampleMonorepo, TARGETS } from './benchmark/sample-index.ts'
import { prepareClients } from './benchmark/tools.ts'
import { type Checkout, polderCheckout } from './benchmark/workspace.ts'
import { buildRelease } from './release.ts'

const USAGE = `usage: scripts/bench-index [WORKSPACE] [--memory MB] [--connections N] [--seconds N] [--runs N]

Compares polder's index server with nginx (the same bytes as files) and verdaccio: requests a second and the server's
processor time for each, from the start to the first answer, and memory. With a workspace, pnpm and bun also install it
from each server, with empty caches.

  --memory MB      what polder may hold in memory, by default as much as it takes by itself. With 1, bodies of more than
                   125 KB are sent from files
  --connections N  at the same time (64)
  --seconds N      of load for each figure (3)
  --runs N         of which the medians are printed (3)`

const { values, positionals } = commandLine(USAGE, {
  connections: { type: 'string', default: '64' },
  memory: { type: 'string' },
  runs: { type: 'string', default: '3' },
  seconds: { type: 'string', default: '3' },
})
const [runs, seconds, connections] = [Number(values.runs), Number(values.seconds), Number(values.connections)]
const isNumber = values.memory === undefined || /^\d+$/.test(values.memory)
if (positionals.length > 1 || !(runs >= 1) || !(seconds >= 1) || !(connections >= 1) || !isNumber) wrongUsage(USAGE)
if (!existsSync('/usr/bin/wrk')) {
  console.error('bench-index: wrk is missing; on Debian: apt-get install wrk')
  process.exit(2)
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
const directory = mkdtempSync(join(tmpdir(), 'polder-bench-index-'))
try {
  const program = await buildRelease(join(directory, 'release'))
  await throughput(program)
  if (positionals[0] !== undefined) await clients(program, resolve(positionals[0]))
} finally {
  rmSync(directory, { recursive: true, force: true })
}

async function throughput(program: string): Promise<void> {
  const home = join(directory, 'sample')
  const upstream = await startRegistry()
  sampleMonorepo(join(home, 'monorepo'), upstream)
  const checkout = await polderCheckout(join(home, 'monorepo'), home, upstream.url)
  const servers = await startServers(program, checkout, home, upstream.url, 'small-document')
  const memory = values.memory === undefined ? '' : `, polder with --memory ${values.memory}`
  console.log(
    `requests a second (the server's CPU a request), ${connections} connections, medians of ${runs} runs of ${seconds} s${memory}`,
  )
  header(servers)
  for (const { title, path, gzip } of TARGETS) {
    const measured = new Map<IndexServer, Load[]>(servers.map((server) => [server, []]))
    // What a mirror has not got yet it asks for, and the upstream is in this process, which waits for wrk.
    for (const server of servers) await (await fetch(`${server.url}${path}`)).arrayBuffer()
    for (let run = 0; run <= runs; run += 1) {
      for (const server of servers) {
        const headers = gzip ? ['Accept-Encoding: gzip'] : []
        const result = load(`${server.url}${path}`, server.pid, {
          connections,
          seconds: run === 0 ? 1 : seconds,
          headers,
        })
        // The first one fills what a server keeps in memory.
        if (run > 0) measured.get(server)?.push(result)
      }
    }
    const rates = servers.map((server) => median(measured.get(server)?.map(({ perSecond }) => perSecond)))
    const costs = servers.map((server) => median(measured.get(server)?.map(({ cpuMs }) => cpuMs)))
    row(
      title,
      servers.map((_, at) => `${Math.round(rates[at] ?? 0)} (${(costs[at] ?? 0).toFixed(3)} ms)`),
      rates,
    )
  }
  row(
    'start to first answer',
    servers.map(({ startMs }) => `${startMs.toFixed(0)} ms`),
  )
  row(
    'peak memory',
    servers.map(({ pid }) => `${peakMb(pid).toFixed(0)} MB`),
  )
  for (const server of servers) await server.close()
  await upstream.close()
}

/** Installs the workspace with empty caches from each of the servers. */
async function clients(program: string, workspace: string): Promise<void> {
  const home = join(directory, 'clients')
  const checkout = await polderCheckout(workspace, home)
  const upstream = await startPinRegistry(checkout)
  const servers = await startServers(program, checkout, home, upstream.url, '-/ping')
  console.log(
    `\ncold install of ${workspace} (${upstream.packages} packages): wall, and the client's CPU, medians of ${runs} runs`,
  )
  header(servers)
  const prepared = await Promise.all(
    servers.map(({ name, url }) => prepareClients(checkout, join(home, `clients-of-${name}`), url)),
  )
  for (const [at, { name }] of (prepared[0] ?? []).entries()) {
    const measured = new Map<IndexServer, Measurement[]>(servers.map((server) => [server, []]))
    for (let run = 0; run <= runs; run += 1) {
      for (const turn of servers.keys()) {
        // Not always the same one after the same other: the disk goes on with what the one before wrote and deleted.
        const of = (turn + run) % servers.length
        const [server, tool] = [servers[of], prepared[of]?.[at]]
        if (server === undefined || tool === undefined) continue
        for (const cache of tool.caches) rmSync(cache, { recursive: true, force: true })
        const fresh = join(home, `fresh-${server.name}-${at}-${run}`)
        cpSync(tool.pristine, fresh, { recursive: true, verbatimSymlinks: true })
        const result = await measure(tool.cold, fresh, tool.env)
        if (run > 0) measured.get(server)?.push(result)
      }
    }
    const walls = servers.map((server) => median(measured.get(server)?.map(({ wallMs }) => wallMs)))
    const cpus = servers.map((server) => median(measured.get(server)?.map(({ cpuMs }) => cpuMs)))
    row(
      name,
      servers.map((_, of) => `${(walls[of] ?? 0).toFixed(0)} ms (${(cpus[of] ?? 0).toFixed(0)} ms)`),
      walls,
    )
  }
  for (const server of servers) await server.close()
  await upstream.close()
}

async function startServers(
  program: string,
  checkout: Checkout,
  home: string,
  upstream: string,
  ready: string,
): Promise<readonly IndexServer[]> {
  mkdirSync(home, { recursive: true })
  const polder = await startPolder(program, checkout, ready, values.memory)
  const nginx = await startNginx(home, checkout, polder)
  const verdaccio = await startVerdaccio(home, upstream, ready)
  return [polder, nginx, verdaccio].filter((server) => server !== undefined)
}

function header(servers: readonly IndexServer[]): void {
  console.log(''.padEnd(26) + servers.map(({ name }) => name.padStart(22)).join(''))
}

/** With values: each peer's, as polder's share of it. */
function row(title: string, cells: readonly string[], compared?: readonly number[]): void {
  const own = compared?.[0] ?? 0
  const ratios = compared?.slice(1).map((value) => `${(own / value).toFixed(2)}×`) ?? []
  console.log(
    title.padEnd(26) +
      cells.map((cell) => cell.padStart(22)).join('') +
      (ratios.length > 0 ? `   polder is ${ratios.join(', ')}` : ''),
  )
}

function median(all: readonly number[] = []): number {
  const sorted = all.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}
