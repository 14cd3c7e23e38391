import { chmodSync, existsSync, lstatSync, mkdirSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import type { Limits } from './limits.ts'

/** What a build sees of a directory or file outside. */
export interface Mount {
  /** Outside: an absolute path that exists. */
  readonly source: string
  /** Inside; the same path if not given. */
  readonly target?: string
}

/** One piece of the file system that a build sees, in the order in which they are put in place. */
export type Piece =
  | { readonly kind: 'read-only' | 'writable'; readonly source: string; readonly target: string }
  | { readonly kind: 'memory'; readonly target: string; readonly bytes: number; readonly mode: string }
  | { readonly kind: 'link'; readonly target: string; readonly to: string }
  | { readonly kind: 'processes' | 'devices'; readonly target: string }
  | { readonly kind: 'sealed'; readonly target: string }

/** Who a build is, inside. */
export const USER = { name: 'polder', id: 1000, home: '/home/polder' }
export const HOSTNAME = 'polder'

/** Where there is a file system in memory, whose contents count as memory of the build. */
export const IN_MEMORY: readonly string[] = ['/tmp', USER.home, '/dev/shm', '/run']

/**
 * The file system of every build, made from nothing: the programs and libraries of the system, the few files of /etc that
 * they need, our own for users and names. On top of it comes what is a build's own.
 * @param etc made by `writeOwnFiles`
 */
export function commonPieces(etc: string): readonly Piece[] {
  return [
    readOnly('/usr'),
    ...TOP_LEVEL.filter((path) => existsSync(path)).map((path): Piece => {
      return lstatSync(path).isSymbolicLink() ? { kind: 'link', target: path, to: readlinkSync(path) } : readOnly(path)
    }),
    ...Object.keys(OWN_FILES).map((name) => readOnly(join(etc, name), `/etc/${name}`)),
    ...FROM_ETC.filter((path) => existsSync(path)).map((path) => readOnly(path)),
    { kind: 'devices', target: '/dev' },
  ]
}

/** What is in memory, what the caller mounts, and the one directory that may be written. */
export function ownPieces(
  directory: Required<Mount>,
  mounts: readonly Mount[],
  limits: Pick<Limits, 'diskBytes'>,
): readonly Piece[] {
  const within = mounts.filter(({ source, target = source }) => target.startsWith(`${directory.target}/`))
  const outside = mounts.filter((mount) => !within.includes(mount))
  return [
    { kind: 'processes', target: '/proc' },
    { kind: 'memory', target: '/dev/shm', bytes: 256 * 2 ** 20, mode: '1777' },
    { kind: 'sealed', target: '/dev' },
    { kind: 'memory', target: '/tmp', bytes: limits.diskBytes, mode: '1777' },
    { kind: 'memory', target: '/run', bytes: 16 * 2 ** 20, mode: '1777' },
    { kind: 'memory', target: USER.home, bytes: limits.diskBytes, mode: '1777' },
    ...outside.map(({ source, target }) => readOnly(source, target)),
    { kind: 'writable', source: directory.source, target: directory.target },
    ...within.map(({ source, target }) => readOnly(source, target)),
    { kind: 'sealed', target: '/' },
  ]
}

function readOnly(source: string, target: string = source): Piece {
  return { kind: 'read-only', source, target }
}

const TOP_LEVEL = ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']

// Which linker and compiler is meant, certificates, and the settings without which OpenSSL does not start on some
// distributions. Nothing that knows of users, hosts or secrets.
const FROM_ETC = [
  '/etc/alternatives',
  '/etc/ld.so.cache',
  '/etc/ld.so.conf',
  '/etc/ld.so.conf.d',
  '/etc/ssl/certs',
  '/etc/ssl/openssl.cnf',
  '/etc/pki/tls/certs',
  '/etc/pki/tls/openssl.cnf',
  '/etc/pki/ca-trust/extracted',
  '/etc/crypto-policies',
  '/etc/perl',
  '/etc/fonts',
]

const OWN_FILES: Readonly<Record<string, string>> = {
  passwd: `root:x:0:0:root:/:/bin/false\n${USER.name}:x:${USER.id}:${USER.id}::${USER.home}:/bin/sh\n`,
  group: `root:x:0:\n${USER.name}:x:${USER.id}:\n`,
  hosts: `127.0.0.1 localhost ${HOSTNAME}\n::1 localhost\n`,
  hostname: `${HOSTNAME}\n`,
  'host.conf': 'multi on\n',
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n',
  'resolv.conf': 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n',
  services: 'domain 53/tcp\ndomain 53/udp\nhttp 80/tcp\nhttps 443/tcp\n',
  protocols: 'ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n',
}

/** The files of /etc that are ours, once for all builds. */
export function writeOwnFiles(etc: string): void {
  mkdirSync(etc, { recursive: true })
  for (const [name, text] of Object.entries(OWN_FILES)) {
    writeFileSync(join(etc, name), text)
    chmodSync(join(etc, name), 0o644)
  }
}

/** The variables that every build has; those of the caller come on top. */
export const BASE_ENVIRONMENT: Readonly<Record<string, string>> = {
  HOME: USER.home,
  USER: USER.name,
  LOGNAME: USER.name,
  SHELL: '/bin/sh',
  PATH: '/usr/local/bin:/usr/bin:/bin',
  LANG: 'C.UTF-8',
  TZ: 'UTC',
  TMPDIR: '/tmp',
  TERM: 'dumb',
}
