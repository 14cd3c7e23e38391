import cluster, { type Worker } from 'node:cluster'

import type { MetricsSample } from './metrics.ts'

// What the processes of one server tell each other.
type ToPrimary =
  | { readonly polder: 'ready'; readonly url: string; readonly address: string }
  | { readonly polder: 'metrics'; readonly request: number }
  | { readonly polder: 'sample'; readonly request: number; readonly sample: MetricsSample }
type ToWorker =
  | { readonly polder: 'sample'; readonly request: number }
  | { readonly polder: 'samples'; readonly request: number; readonly samples: readonly MetricsSample[] }

/** Whoever does not say in this time how it is doing is left out of the metrics. */
const SAMPLE_MS = 1000
/** More workers that end than this, in this time, and there is no use in starting others. */
const MOST_DEATHS = 5
const DEATHS_MS = 60_000

export interface Workers {
  readonly url: string
  readonly address: string
  /** Every worker reads the locks again. */
  readonly reload: () => void
  /** Ends all of them, each after it has finished its answers. */
  readonly close: () => Promise<void>
  /** Settles only if the workers cannot be kept running. */
  readonly failed: Promise<Error>
}

/**
 * Starts this program `count` times over, as workers that share one address; each calls {@link joinWorkers}. One that dies
 * is replaced.
 */
export async function startWorkers(count: number): Promise<Workers> {
  let closing = false
  let fail: (error: Error) => void
  const failed = new Promise<Error>((resolve) => (fail = resolve))
  const deaths: number[] = []
  const collecting = new Map<string, (sample: MetricsSample) => void>()

  const start = (): Promise<{ url: string; address: string }> =>
    new Promise((resolve) => {
      const worker = cluster.fork()
      let isReady = false
      worker.on('message', (message: ToPrimary) => {
        if (message.polder === 'ready') {
          isReady = true
          resolve(message)
        } else if (message.polder === 'metrics') void collect(worker, message.request)
        else if (message.polder === 'sample') collecting.get(`${worker.id}/${message.request}`)?.(message.sample)
      })
      worker.once('exit', (code, signal) => {
        if (closing) return
        deaths.push(Date.now())
        const recent = deaths.filter((at) => Date.now() - at < DEATHS_MS)
        if (isReady && recent.length <= MOST_DEATHS) void start()
        else fail(new Error(`workers of the index server end by themselves: ${signal || `exit code ${code}`}`))
      })
    })

  let requests = 0
  async function collect(asking: Worker, request: number): Promise<void> {
    const round = (requests += 1)
    const samples = await Promise.all(
      Object.values(cluster.workers ?? {}).flatMap((worker) => {
        if (worker === undefined || !worker.isConnected()) return []
        const key = `${worker.id}/${round}`
        return [
          new Promise<readonly MetricsSample[]>((resolve) => {
            const timer = setTimeout(() => resolve([]), SAMPLE_MS)
            collecting.set(key, (sample) => {
              clearTimeout(timer)
              resolve([sample])
            })
            worker.send({ polder: 'sample', request: round } satisfies ToWorker)
          }).finally(() => collecting.delete(key)),
        ]
      }),
    )
    if (asking.isConnected()) asking.send({ polder: 'samples', request, samples: samples.flat() } satisfies ToWorker)
  }

  const ready = await Promise.race([Promise.all(Array.from({ length: count }, start)), failed])
  if (ready instanceof Error) throw ready
  const all = (): Worker[] => Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined)
  return {
    url: ready[0]?.url ?? '',
    address: ready[0]?.address ?? '',
    failed,
    reload() {
      for (const worker of all()) worker.process.kill('SIGHUP')
    },
    async close() {
      closing = true
      await Promise.all(
        all().map((worker) => {
          const ended = new Promise((resolve) => worker.once('exit', resolve))
          worker.process.kill('SIGTERM')
          return ended
        }),
      )
    },
  }
}

/** What a worker needs of the others. */
export interface Joined {
  /** For `ServerOptions.metrics`. */
  readonly metrics: () => Promise<readonly MetricsSample[]>
  readonly ready: (server: { readonly url: string; readonly address: string; sample(): MetricsSample }) => void
  /** Nothing keeps this process any more. */
  readonly leave: () => void
}

/** Undefined in a process that {@link startWorkers} did not start. */
export function joinWorkers(): Joined | undefined {
  if (!cluster.isWorker) return undefined
  const waiting = new Map<number, (samples: readonly MetricsSample[]) => void>()
  let requests = 0
  const send = (message: ToPrimary): void => {
    process.send?.(message)
  }
  return {
    metrics: () =>
      new Promise((resolve) => {
        const request = (requests += 1)
        waiting.set(request, resolve)
        send({ polder: 'metrics', request })
      }),
    ready(server) {
      process.on('message', (message: ToWorker) => {
        if (message.polder === 'sample') send({ polder: 'sample', request: message.request, sample: server.sample() })
        else if (message.polder === 'samples') {
          waiting.get(message.request)?.(message.samples)
          waiting.delete(message.request)
        }
      })
      send({ polder: 'ready', url: server.url, address: server.address })
    },
    leave: () => {
      process.disconnect?.()
    },
  }
}
