import { PolderError } from '@polder/spec'

import type { BuildRecord, RecordedAttempt } from './build-record.ts'
import type { Toolchain } from './toolchain.ts'

type FailedBuild = Pick<BuildRecord, 'attempts' | 'refused' | 'log' | 'failure'> & { readonly package: string }

interface Circumstances {
  readonly optional?: true
  /** What it was built with: what that lacks may be the reason. */
  readonly toolchain?: Pick<Toolchain, 'compiler' | 'python'>
}

/** What a person needs to mend a build that failed: what ran, how it ended, what it printed, and what it was denied. */
export function buildFailure(record: FailedBuild, { optional, toolchain }: Circumstances = {}): PolderError {
  const { package: name, failure, log, attempts, refused } = record
  if (failure === undefined) return new PolderError('BUILD_FAILED', `${name} could not be built`, { spec: name })
  const { script, tail } = failure
  const denied = [
    ...attempts.map((attempt) => `it tried to reach ${describeAttempt(attempt)}`),
    ...refused.map(({ what, count }) => `it asked the index for ${what}, which is not pinned${times(count)}`),
  ]
  const advice = [...(toolchain === undefined ? [] : lacking(record, toolchain)), hint(record)].join('; ')
  return new PolderError('BUILD_FAILED', `${name}: its ${script.event} script ${ending(failure)}`, {
    spec: name,
    path: log,
    explanation: [`$ ${script.command}`, ...lastLines(tail), ...denied].join('\n'),
    // npm leaves such a package out. What is installed would then depend on what fails where.
    hint:
      optional === true
        ? `it is optional: without it in builds.allow of polder.yaml, its scripts do not run and all else is installed; ${advice}`
        : advice,
  })
}

/** `cdn.example (A)`, `198.51.100.7:443 (TLS for cdn.example)`: one line for a person. */
export function describeAttempt({
  kind,
  name,
  address,
  port,
  sni,
  host,
  request,
  type,
  count,
}: RecordedAttempt): string {
  const target = name ?? address ?? 'somewhere'
  const where = kind === 'dns' ? `the name ${name ?? '?'}` : `${target}${port === undefined ? '' : `:${port}`}`
  const how =
    kind === 'dns'
      ? (type ?? 'DNS')
      : sni !== undefined
        ? `TLS for ${sni}`
        : request !== undefined
          ? `HTTP ${request}${host === undefined ? '' : ` of ${host}`}`
          : kind.toUpperCase()
  return `${where} (${how})${times(count)}`
}

function times(count: number): string {
  return count > 1 ? `, ${count} times` : ''
}

function ending({ status, signal, limit }: NonNullable<BuildRecord['failure']>): string {
  if (limit !== undefined) return `went over its limit of ${LIMITS[limit]} and was ended`
  return status === null ? `was ended by ${signal ?? 'a signal'}` : `failed with exit code ${status}`
}

const LIMITS = {
  time: 'time',
  memory: 'memory',
  processes: 'processes',
  output: 'output',
  disk: 'disk space',
} as const

const SETTINGS = {
  time: 'minutes',
  memory: 'memoryMB',
  processes: 'processes',
  output: 'outputMB',
  disk: 'diskMB',
} as const

const SHOWN = 20

function lastLines(tail: string): readonly string[] {
  return tail
    .trimEnd()
    .split('\n')
    .slice(-SHOWN)
    .map((line) => `| ${line}`)
}

const COMPILING = /\bgyp\b|compiler|\bmake\b|\bcc\b|\b[cg]\+\+/i

/** Compilers say in many ways that they are not there, none of which names what to install. */
function lacking({ failure }: FailedBuild, { compiler, python }: Pick<Toolchain, 'compiler' | 'python'>): string[] {
  if (!COMPILING.test(`${failure?.script.command ?? ''}\n${failure?.tail ?? ''}`)) return []
  const absent = [
    ...(compiler === undefined ? ['C++ compiler'] : []),
    ...(python === undefined ? ['Python, which node-gyp needs'] : []),
  ]
  if (absent.length === 0) return []
  return [`this machine has no ${absent.join(' and no ')} (Debian: apt-get install g++ make python3)`]
}

function hint({ attempts, refused, log, failure }: FailedBuild): string {
  const whole = `the whole log: ${log}`
  if (failure?.limit !== undefined)
    return `raise builds.limits.${SETTINGS[failure.limit]} in polder.yaml if it is in its right; ${whole}`
  if (refused.length > 0)
    return `add ${refused[0]?.what ?? 'it'} to a service, or pin it with \`polder index add\`; ${whole}`
  if (attempts.length > 0)
    return `pin what it wants to fetch with \`polder index add URL --sha512 …\` (\`polder builds --learn\` proposes the commands); ${whole}`
  return whole
}
