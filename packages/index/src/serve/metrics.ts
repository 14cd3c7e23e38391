/** What requests are counted by. */
export const KINDS = ['document', 'tarball', 'file', 'service', 'refused', 'other'] as const
export type RequestKind = (typeof KINDS)[number]

/**
 * The counters of a server. Plain numbers, and not a metrics library's: counting has to cost a request nothing, and a
 * library looks up the labels of every increment.
 */
export class Counters {
  /** By kind, and in it by the first digit of the status. */
  readonly answers: Record<RequestKind, number[]> = Object.fromEntries(
    KINDS.map((kind) => [kind, [0, 0, 0, 0, 0, 0]]),
  ) as Record<RequestKind, number[]>
  bytes = 0
  damaged = 0
  connections = 0
  /** Requests so far, answered or not. */
  requests = 0

  /** @param bytes of the body */
  count(kind: RequestKind, status: number, bytes: number): void {
    const row = this.answers[kind]
    const column = (status / 100) | 0
    row[column] = (row[column] ?? 0) + 1
    this.bytes += bytes
  }
}

/** The state of one process, as its metrics say it. Plain, so that it can be sent to another process. */
export interface MetricsSample {
  readonly answers: Readonly<Record<RequestKind, readonly number[]>>
  readonly bytes: number
  readonly damaged: number
  readonly connections: number
  readonly bodies: number
  readonly bodyBytes: number
  readonly bodyLimit: number
  readonly names: number
  readonly pins: number
  /** Of the process. */
  readonly residentBytes: number
  readonly cpuSeconds: number
  /** Seconds since 1970. */
  readonly started: number
}

/** Prometheus' text format, version 0.0.4. Of several processes the sums; what all of them serve is not summed. */
export function prometheusText(samples: readonly MetricsSample[]): string {
  const sum = (value: (sample: MetricsSample) => number): number =>
    samples.reduce((total, sample) => total + value(sample), 0)
  const most = (value: (sample: MetricsSample) => number): number => Math.max(0, ...samples.map(value))
  const lines: string[] = []
  const metric = (name: string, type: 'counter' | 'gauge', help: string, value: number): void => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, `${name} ${value}`)
  }
  const requests = 'polder_index_requests_total'
  lines.push(`# HELP ${requests} Answered requests.`, `# TYPE ${requests} counter`)
  for (const kind of KINDS) {
    for (const first of [2, 3, 4, 5]) {
      const value = sum(({ answers }) => answers[kind][first] ?? 0)
      lines.push(`${requests}{kind="${kind}",status="${first}xx"} ${value}`)
    }
  }
  metric(
    'polder_index_sent_bytes_total',
    'counter',
    'Bytes of the bodies that were sent.',
    sum(({ bytes }) => bytes),
  )
  metric(
    'polder_index_damaged_total',
    'counter',
    'Artifacts that were found to be damaged or missing.',
    sum(({ damaged }) => damaged),
  )
  metric(
    'polder_index_connections',
    'gauge',
    'Open connections.',
    sum(({ connections }) => connections),
  )
  metric(
    'polder_index_bodies',
    'gauge',
    'Bodies in memory.',
    sum(({ bodies }) => bodies),
  )
  metric(
    'polder_index_body_bytes',
    'gauge',
    'Memory for bodies that is in use.',
    sum(({ bodyBytes }) => bodyBytes),
  )
  metric(
    'polder_index_body_limit_bytes',
    'gauge',
    'Memory for bodies.',
    sum(({ bodyLimit }) => bodyLimit),
  )
  metric(
    'polder_index_names',
    'gauge',
    'Names that are served.',
    most(({ names }) => names),
  )
  metric(
    'polder_index_pins',
    'gauge',
    'Versions that are served.',
    most(({ pins }) => pins),
  )
  metric('polder_index_processes', 'gauge', 'Processes that serve.', samples.length)
  metric(
    'process_resident_memory_bytes',
    'gauge',
    'Resident memory.',
    sum(({ residentBytes }) => residentBytes),
  )
  metric(
    'process_cpu_seconds_total',
    'counter',
    'User and system CPU time.',
    sum(({ cpuSeconds }) => cpuSeconds),
  )
  metric(
    'process_start_time_seconds',
    'gauge',
    'Start, in seconds since 1970.',
    Math.min(...samples.map(({ started }) => started)),
  )
  return `${lines.join('\n')}\n`
}
