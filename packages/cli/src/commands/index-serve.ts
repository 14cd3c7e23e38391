import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

import { nearestRoot } from '@polder/gather/inputs'
import {
  type IndexServer,
  openIndex,
  openPack,
  openRefusedRecord,
  type PinnedIndex,
  type ServerOptions,
  startIndexServer,
} from '@polder/index/server'
import { isErrno, PolderError } from '@polder/spec'
import { openStore, storeHome, type Store } from '@polder/store'

import { LOCK_FILE, requireLock } from '../lock-file.ts'
import { count, type Output } from '../output.ts'
import { keepDocuments, servedLock } from '../served-lock.ts'
import { boundYoungGeneration } from '../young-generation.ts'

/** As they come from the command line. */
export interface ServeFlags {
  readonly lock: readonly string[]
  readonly host: string
  readonly port: string
  readonly socket?: string
  readonly baseUrl?: string
  /** In megabytes, of all processes together. */
  readonly memory: string
  readonly workers: string
  /** True for stderr. */
  readonly log?: string | true
}

/**
 * `polder index serve`: serves the locks until SIGTERM or SIGINT, and reads them again on SIGHUP.
 * @throws PolderError `ADDRESS_REFUSED`, `LOCK_NOT_FOUND`, `LOCK_INVALID`, `PIN_CONFLICT`, `USAGE`
 */
export async function indexServe(cwd: string, output: Output, flags: ServeFlags): Promise<number> {
  const workers = wholeNumber('--workers', flags.workers, 1, 64)
  const memoryBytes = (wholeNumber('--memory', flags.memory, 0, 1e6) * 1e6) / workers
  const listen = listenAddress(cwd, flags)
  const baseUrl = flags.baseUrl === undefined ? {} : { baseUrl: httpUrl(flags.baseUrl) }
  const store = openStore(storeHome(process.env))
  const read = async (): Promise<Locks> => {
    const locks = await readLocks(store, cwd, flags.lock)
    return { locks, index: openIndex(store, locks, { memoryBytes }) }
  }
  if (workers === 1) {
    const ready: Serving['ready'] = (server, index) => announce(server, index, output)
    const prepare: Serving['prepare'] = async (server, served) => {
      await keepMissing(store, served)
      await server.prepare()
    }
    await serve(store, read, { listen, ...baseUrl }, flags, output, { ready, prepare })
    return 0
  }
  if (flags.socket !== undefined)
    throw new PolderError('USAGE', '--socket is served by one process: leave out --workers', { spec: '--workers' })
  const { joinWorkers, startWorkers } = await import('@polder/index/workers')
  const joined = joinWorkers()
  if (joined !== undefined) {
    const prepare: Serving['prepare'] = (server) => server.prepare()
    const options = { listen, ...baseUrl, metrics: joined.metrics }
    await serve(store, read, options, flags, output, { ready: joined.ready, prepare })
    joined.leave()
    return 0
  }
  // What is wrong with the locks is told once, and not by every worker.
  const served = await read()
  const started = await startWorkers(workers)
  announce(started, served.index, output)
  void keepMissing(store, served)
  process.on('SIGHUP', started.reload)
  const failure = await Promise.race([ended(), started.failed])
  await started.close()
  if (failure instanceof Error) throw failure
  return 0
}

/** What one process does when it serves, and before somebody asks it. */
interface Serving {
  readonly ready: (server: IndexServer, index: PinnedIndex) => void
  readonly prepare: (server: IndexServer, served: Locks) => Promise<void>
}

/** The locks, when they were last read. */
interface Locks {
  readonly locks: readonly ServedLock[]
  readonly index: PinnedIndex
}

/** One process that serves, until a signal ends it. */
async function serve(
  store: Store,
  read: () => Promise<Locks>,
  options: Pick<ServerOptions, 'listen' | 'baseUrl' | 'metrics'>,
  flags: ServeFlags,
  output: Output,
  { ready, prepare }: Serving,
): Promise<void> {
  const refused = openRefusedRecord(store)
  const log = flags.log === undefined ? undefined : await openLog(flags.log)
  const served = await read()
  const server = await startIndexServer(served.index, {
    ...options,
    onRefused: refused.note,
    ...(log === undefined ? {} : { onRequest: log.write }),
    onError: (error) => output.note(`polder: unexpected: ${error instanceof Error ? error.message : String(error)}`),
  })
  process.on('SIGHUP', () => {
    void reload(server, read, prepare, output)
  })
  const end = ended()
  const bounding = setInterval(() => {
    // Much is new and alive while many answers are under way.
    if (boundYoungGeneration()) clearInterval(bounding)
  }, 100).unref()
  ready(server, served.index)
  void warnOfMissing(served.index, output).then(() => prepare(server, served))
  await end
  await server.close()
  refused.close()
  log?.close()
}

/** A lock that cannot be read leaves the server as it is. */
async function reload(
  server: IndexServer,
  read: () => Promise<Locks>,
  prepare: Serving['prepare'],
  output: Output,
): Promise<void> {
  try {
    const served = await read()
    server.use(served.index)
    output.note(`polder: read again: ${contents(served.index)}`)
    await warnOfMissing(served.index, output)
    void prepare(server, served)
  } catch (error) {
    output.note(`polder: not read again: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** They are answered with 503 until a sync brings them. */
async function warnOfMissing(index: PinnedIndex, output: Output): Promise<void> {
  const { length, 0: first = '' } = await index.missing()
  if (length > 0)
    output.note(`warning: the store lacks ${count(length, 'artifact')}, such as ${first}: run \`polder index sync\``)
}

function announce(
  { url, address }: { readonly url: string; readonly address: string },
  index: PinnedIndex,
  output: Output,
): void {
  if (output.json) {
    const locks = [...index.views.keys()]
    const where = address.startsWith('/') ? { url, socket: address } : { url, address }
    process.stdout.write(`${JSON.stringify({ ...where, pid: process.pid, names: index.all.versions.size, locks })}\n`)
    return
  }
  output.line(`Serving ${contents(index)} on ${output.bold(address.startsWith('/') ? address : url)}`)
  for (const id of index.views.size > 1 ? index.views.keys() : []) output.line(`  one lock alone: ${url}@lock/${id}/`)
}

function contents({ all }: PinnedIndex): string {
  let pins = 0
  for (const versions of all.versions.values()) pins += versions.size
  return `${count(pins, 'pin')} of ${count(all.versions.size, 'name')}`
}

type ServedLock = Awaited<ReturnType<typeof servedLock>>

async function readLocks(store: Store, cwd: string, named: readonly string[]): Promise<readonly ServedLock[]> {
  if (named.length === 0) return [await servedLock(store, requireLock(await rootOf(cwd)), LOCK_FILE)]
  return Promise.all(named.map((path) => servedLock(store, readNamed(resolve(cwd, path)), path)))
}

/** Makes the documents of locks that came without: from version control, say, or from another polder. */
async function keepMissing(store: Store, { locks, index }: Locks): Promise<void> {
  const without = locks.filter(({ documents }) => openPack(documents) === undefined)
  for (const lock of without) await keepDocuments(store, lock)
  if (without.length > 0) index.openPacksAgain()
}

/** @throws PolderError `LOCK_NOT_FOUND` */
function readNamed(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT', 'ENOTDIR', 'EISDIR')) throw cause
    throw new PolderError('LOCK_NOT_FOUND', `${path} is no file`, { path, hint: 'name a polder.lock' })
  }
}

async function rootOf(cwd: string): Promise<string> {
  const root = nearestRoot(cwd)
  if (root !== null) return root
  // Says what is missing; loading it takes longer than the server takes to start.
  return (await import('@polder/gather')).findRoot(cwd)
}

/** Settles at the first signal to end. */
async function ended(): Promise<void> {
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
  })
}

interface RequestLog {
  readonly write: NonNullable<ServerOptions['onRequest']>
  close(): void
}

/** pino writes one JSON document a line, and gathers lines, so that a request does not wait for a disk. */
async function openLog(target: string | true): Promise<RequestLog> {
  const { pino } = await import('pino')
  const destination = pino.destination({ dest: target === true ? 2 : resolve(target), sync: false, minLength: 4096 })
  const log = pino({ base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, destination)
  return {
    write: (request) => log.info(request),
    close: () => destination.flushSync(),
  }
}

function listenAddress(cwd: string, { socket, host, port }: ServeFlags): ServerOptions['listen'] {
  return socket === undefined
    ? { host, port: wholeNumber('--port', port, 0, 65_535) }
    : { socket: resolve(cwd, socket) }
}

function httpUrl(text: string): string {
  const url = URL.parse(text)
  if (url !== null && /^https?:$/.test(url.protocol) && url.search === '' && url.hash === '') return url.href
  throw new PolderError('USAGE', `--base-url is ${JSON.stringify(text)}, which is no http URL`, { found: text })
}

function wholeNumber(option: string, text: string, least: number, most: number): number {
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= least && number <= most) return number
  const problem = `${option} is ${JSON.stringify(text)}, which is no whole number from ${least} to ${most}`
  throw new PolderError('USAGE', problem, { found: text })
}
