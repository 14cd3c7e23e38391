import { accessSync, constants, readFileSync, realpathSync } from 'node:fs'
import { basename, delimiter, isAbsolute, join } from 'node:path'

/** A program that the sandbox would use and that is not there. */
export interface MissingProgram {
  readonly program: string
  /** What this distribution calls the package it is in. */
  readonly package: string
  /** What there is not without it. */
  readonly why: string
  /** The command that installs it here. */
  readonly install: string
}

const WANTED = {
  bwrap: { package: 'bubblewrap', why: 'the first choice of sandbox' },
  unshare: { package: 'util-linux', why: 'namespaces for builds' },
  nsenter: { package: 'util-linux', why: 'a record of where datagrams were going' },
  setpriv: { package: 'util-linux', why: 'a build without privileges' },
  prlimit: { package: 'util-linux', why: 'limits of processes, memory and file size' },
  mount: { package: 'mount', why: 'a private file system where bubblewrap is missing' },
  pivot_root: { package: 'util-linux', why: 'a private file system where bubblewrap is missing' },
  ip: { package: 'iproute2', why: 'a record of the addresses that a build tries to reach' },
  nft: { package: 'nftables', why: 'a record of the addresses that a build tries to reach' },
  perl: { package: 'perl-base', why: 'a network of its own for each build' },
  mkfifo: { package: 'coreutils', why: 'the log of a build' },
} as const

export type ProgramName = keyof typeof WANTED
/** All that a sandbox may use. */
export const PROGRAMS: readonly ProgramName[] = Object.keys(WANTED) as ProgramName[]
/** The absolute path of each program that is there. */
export type Programs = Readonly<Partial<Record<ProgramName, string>>>

// What only the superuser uses is often not on the PATH of others, who may use it as well in a namespace of their own.
const ALSO = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/** Where programs are found if nobody says otherwise. */
export function programPath(): string {
  return [process.env['PATH'] ?? '', ...ALSO].join(delimiter)
}

/** Finds programs in the directories of a PATH. */
export function findPrograms(path: string): Programs {
  const directories = path.split(delimiter).filter(isAbsolute)
  const found: Partial<Record<ProgramName, string>> = {}
  for (const name of PROGRAMS) {
    const file = directories.map((directory) => join(directory, name)).find(isExecutable)
    if (file !== undefined) found[name] = real(file)
  }
  return found
}

/** Those of the wanted that were not found. */
export function missingPrograms(programs: Programs, wanted: readonly ProgramName[]): readonly MissingProgram[] {
  const distribution = readDistribution()
  return wanted
    .filter((name) => programs[name] === undefined)
    .map((program) => {
      const { package: debian, why } = WANTED[program]
      const name = distribution.names[debian] ?? debian
      return { program, package: name, why, install: `${distribution.install} ${name}` }
    })
}

/** One command that installs all of them. */
export function installCommand(missing: readonly MissingProgram[]): string {
  return [readDistribution().install, ...new Set(missing.map((program) => program.package))].join(' ')
}

interface Distribution {
  readonly install: string
  /** Where its names of packages differ from Debian's. */
  readonly names: Readonly<Record<string, string>>
}

const DISTRIBUTIONS: ReadonlyMap<string, Distribution> = new Map<string, Distribution>([
  ['debian', { install: 'apt-get install', names: {} }],
  ['ubuntu', { install: 'apt-get install', names: {} }],
  [
    'fedora',
    { install: 'dnf install', names: { iproute2: 'iproute', mount: 'util-linux', 'perl-base': 'perl-interpreter' } },
  ],
  [
    'rhel',
    { install: 'dnf install', names: { iproute2: 'iproute', mount: 'util-linux', 'perl-base': 'perl-interpreter' } },
  ],
  ['suse', { install: 'zypper install', names: { mount: 'util-linux' } }],
  ['arch', { install: 'pacman -S', names: { mount: 'util-linux', 'perl-base': 'perl' } }],
  ['alpine', { install: 'apk add', names: { mount: 'util-linux', 'perl-base': 'perl' } }],
])

/** By os-release(5): its ID, or the one of those that it says it is like. */
function readDistribution(): Distribution {
  let text = ''
  try {
    text = readFileSync('/etc/os-release', 'utf8')
  } catch {
    // Not there on every system; the most common one is assumed.
  }
  const ids = [/^ID=(.*)$/m, /^ID_LIKE=(.*)$/m].flatMap(
    (field) => field.exec(text)?.[1]?.replaceAll('"', '').split(' ') ?? [],
  )
  for (const id of ids) {
    const known = DISTRIBUTIONS.get(id)
    if (known !== undefined) return known
  }
  return { install: 'apt-get install', names: {} }
}

/** Inside of a sandbox a program stands where it really is, unless one program is many, by the name it is called by. */
function real(file: string): string {
  const path = realpathSync(file)
  return basename(path) === basename(file) ? path : file
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
