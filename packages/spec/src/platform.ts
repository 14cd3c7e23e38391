import { closeSync, openSync, readSync } from 'node:fs'

/** Where an environment runs, in npm's vocabulary. `libc` is set on Linux only. */
export interface Platform {
  readonly os: string
  readonly cpu: string
  readonly libc?: string
  /** The Node that runs there, where `engines` are to be looked at. */
  readonly node?: NodeRelease
}

/** A version of Node. */
export interface NodeRelease {
  readonly version: string
  /** Whether it is in a range, as npm sees it. */
  readonly satisfies: (range: string) => boolean
}

/** A package's `os`, `cpu` and `libc` fields: allowed values, or values refused with a leading `!`. */
export interface PlatformCondition {
  readonly os?: readonly string[]
  readonly cpu?: readonly string[]
  readonly libc?: readonly string[]
}

/** npm's rule (npm-install-checks): every field that is given must allow the platform. */
export function matchesPlatform(condition: PlatformCondition, platform: Platform): boolean {
  return (
    allows(condition.os, platform.os) &&
    allows(condition.cpu, platform.cpu) &&
    (platform.libc === undefined ? true : allows(condition.libc, platform.libc)) &&
    (condition.libc === undefined || platform.os === 'linux')
  )
}

/**
 * npm's and pnpm's rule: `engines.node` must hold the Node that runs. Engines of package managers are not looked at, as
 * none of those is here.
 */
export function matchesEngines(
  { engines }: { readonly engines?: Readonly<Record<string, string>> },
  { node }: Platform,
): boolean {
  const range = engines?.['node']
  return node === undefined || range === undefined || node.satisfies(range)
}

/** `linux-x64-glibc`, `darwin-arm64`: as `polder.yaml` and `polder.lock` write it. */
export function platformName(platform: Platform): string {
  return [platform.os, platform.cpu, platform.libc].filter((part) => part !== undefined).join('-')
}

/** The reverse of {@link platformName}; `linux-x64` means glibc. Undefined if the text is not a platform. */
export function parsePlatform(name: string): Platform | undefined {
  const match = /^(linux|darwin|win32|freebsd|netbsd|openbsd|sunos|aix|android)-([a-z0-9]+)(?:-(glibc|musl))?$/.exec(
    name,
  )
  if (match === null) return undefined
  const [, os = '', cpu = '', libc] = match
  if (os === 'linux') return { os, cpu, libc: libc ?? 'glibc' }
  return libc === undefined ? { os, cpu } : undefined
}

/** The platform of this process. Musl is told from glibc by the loader that Node was linked for, as `detect-libc` does. */
export function currentPlatform(): Platform {
  const { platform: os, arch: cpu } = process
  if (os !== 'linux') return { os, cpu }
  return { os, cpu, libc: libcOfInterpreter(process.execPath) ?? libcOfReport() }
}

/**
 * One small read; the process report takes as long as linking a hundred packages.
 * @returns undefined if the program's beginning does not tell: a static one, say
 */
function libcOfInterpreter(program: string): string | undefined {
  const beginning = Buffer.alloc(2048)
  try {
    const file = openSync(program, 'r')
    try {
      readSync(file, beginning)
    } finally {
      closeSync(file)
    }
  } catch {
    return undefined
  }
  // PT_INTERP stands as plain text behind the program headers: `/lib64/ld-linux-x86-64.so.2`, `/lib/ld-musl-x86_64.so.1`.
  const [, loader] = /\/ld-(linux|musl)[\w.-]*\.so\.\d+\0/.exec(beginning.toString('latin1')) ?? []
  if (loader === undefined) return undefined
  return loader === 'musl' ? 'musl' : 'glibc'
}

function libcOfReport(): string {
  // Without this the report looks up the name of every network address, which takes long and is no business of ours.
  ;(process.report as NodeJS.ProcessReport & { excludeNetwork: boolean }).excludeNetwork = true
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
  return report.header?.glibcVersionRuntime === undefined ? 'musl' : 'glibc'
}

function allows(list: readonly string[] | undefined, value: string): boolean {
  if (list === undefined || list.length === 0 || (list.length === 1 && list[0] === 'any')) return true
  if (list.includes(`!${value}`)) return false
  const positive = list.filter((entry) => !entry.startsWith('!'))
  return positive.length === 0 || positive.includes(value)
}
