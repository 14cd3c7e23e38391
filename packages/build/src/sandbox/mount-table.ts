import { mkdirSync, readFileSync, realpathSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'

import type { Piece } from './file-system.ts'

/** What has to be there before something is mounted on it. */
export interface Points {
  readonly directories: Set<string>
  readonly files: Set<string>
  readonly links: Map<string, string>
}

/** Mounts that are made at once. */
export interface Stage {
  /** In the file systems in memory of earlier stages. */
  readonly points: Points
  /** Lines of an fstab(5). */
  readonly table: string[]
}

export interface MountTable {
  /** In the root itself. */
  readonly points: Points
  readonly stages: readonly Stage[]
  /** What is mounted below a read-only mount came along with it, writable: has to be made read-only as well. */
  readonly toSeal: readonly string[]
}

/**
 * The pieces of a file system as mounts.
 * @param root what the targets are below of
 */
export function mountTable(pieces: readonly Piece[], root: string): MountTable {
  const stages = [newStage()]
  const toSeal: string[] = []
  const writable = writableMounts()
  const points = noPoints()
  const mounted: string[] = []
  const inMemory: string[] = []
  // Of this stage.
  let fresh: string[] = []
  const stage = (): Stage => stages.at(-1) as Stage // there is always one
  const mount = (source: string, target: string, type: string, options: string): void => {
    stage().table.push(tableLine(source, root + target, type, options))
  }
  const place = (target: string, isDirectory: boolean): void => {
    // What is mounted below another mount has to be in that already.
    if (isBelow(target, mounted)) return
    const { directories, files } = isBelow(target, inMemory) ? stage().points : points
    if (!isDirectory) files.add(target)
    directories.add(isDirectory ? target : posix.dirname(target))
  }
  for (const piece of pieces) {
    if (isBelow(piece.target, fresh)) {
      stages.push(newStage())
      fresh = []
    }
    const { target } = piece
    switch (piece.kind) {
      case 'read-only':
        place(target, statSync(piece.source).isDirectory())
        mount(piece.source, target, 'none', 'rbind,ro,nosuid,nodev')
        toSeal.push(...below(realpathSync(piece.source), writable).map((path) => root + target + path))
        mounted.push(target)
        break
      case 'writable':
        place(target, true)
        mount(piece.source, target, 'none', 'bind,nosuid,nodev')
        mounted.push(target)
        break
      case 'memory':
        place(target, true)
        mount('tmpfs', target, 'tmpfs', `size=${piece.bytes},mode=${piece.mode},nosuid,nodev`)
        inMemory.push(target)
        fresh.push(target)
        break
      case 'link':
        points.directories.add(posix.dirname(target))
        points.links.set(target, piece.to)
        break
      case 'processes':
        place(target, true)
        mount('proc', target, 'proc', 'nosuid,nodev,noexec')
        mount('/proc/sys', `${target}/sys`, 'none', 'bind,ro,nosuid,nodev,noexec')
        break
      case 'devices':
        for (const name of DEVICES) {
          place(`${target}/${name}`, false)
          mount(`/dev/${name}`, `${target}/${name}`, 'none', 'bind')
        }
        for (const [name, to] of DEVICE_LINKS) points.links.set(`${target}/${name}`, to)
        break
      case 'sealed':
        // The root is read-only as a whole; /dev is a part of it here.
        break
    }
  }
  return { points, stages, toSeal }
}

/** Makes what is mounted on. */
export function makeMountPoints(root: string, { directories, files, links }: Points): void {
  for (const path of directories) mkdirSync(root + path, { recursive: true, mode: 0o755 })
  for (const path of files) writeFileSync(root + path, '')
  for (const [path, to] of links) symlinkSync(to, root + path)
}

function newStage(): Stage {
  return { points: noPoints(), table: [] }
}

function noPoints(): Points {
  return { directories: new Set(), files: new Set(), links: new Map() }
}

function isBelow(path: string, others: readonly string[]): boolean {
  return others.some((other) => path.startsWith(`${other}/`))
}

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty']
const DEVICE_LINKS = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
] as const

/** Where something is mounted that can be written to. */
function writableMounts(): readonly string[] {
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , , , , options = '']) => options.startsWith('rw'))
    .map(([, , , , target = '']) => unescape(target))
}

/** Those of the paths that are below a directory, relative to it. */
function below(directory: string, paths: readonly string[]): readonly string[] {
  return paths.filter((path) => path.startsWith(`${directory}/`)).map((path) => path.slice(directory.length))
}

/** A line of an fstab(5). */
export function tableLine(source: string, target: string, type: string, options: string): string {
  return [source, target, type, options, '0', '0'].map(fstabWord).join(' ')
}

/** fstab(5): white space and backslashes as octal numbers, and what would begin a comment. */
function fstabWord(word: string): string {
  return word.replaceAll(/[ \t\n\\#]/g, (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, '0')}`)
}

/** As /proc/self/mountinfo has paths, in bytes. */
function unescape(path: string): string {
  const bytes = path.replaceAll(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
