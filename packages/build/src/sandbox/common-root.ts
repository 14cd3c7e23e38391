import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'

import { commonPieces } from './file-system.ts'
import { makeMountPoints, mountTable, type Points } from './mount-table.ts'

/** The mount points that there are in what is mounted, as JSON, by the scratch of the cell; empty if it is not whole. */
const made = new Map<string, string>()

interface Cell {
  readonly scratch: string
  readonly etc: string
  /** The program. */
  readonly mount: string
}

/**
 * The part of the file system that all builds have, mounted once in the namespace of the cell, read-only: a build takes
 * a copy of it, which is one system call. It has the mount points for what is a build's own, too; another build may
 * need others, and then it is made anew.
 * @param own of the build that is next
 * @returns where it is
 * @throws Error with what mount said
 */
export function commonRoot({ scratch, etc, mount }: Cell, own: Points): string {
  const skeleton = posix.join(scratch, 'skeleton')
  const root = posix.join(scratch, 'common')
  const state = JSON.stringify([[...own.directories], [...own.files], [...own.links]])
  if (made.get(scratch) === state) return root
  const { points, stages, toSeal } = mountTable(commonPieces(etc), root)
  const run = (...words: readonly string[]): void => start(mount, words)
  // What builds have copied stays theirs.
  if (made.delete(scratch)) start('umount', ['-l', root])
  for (const path of [skeleton, root]) {
    rmSync(path, { recursive: true, force: true })
    mkdirSync(path, { recursive: true, mode: 0o755 })
  }
  for (const each of [points, own]) makeMountPoints(skeleton, each)
  mkdirSync(posix.join(skeleton, 'old'))
  run('--bind', skeleton, root)
  made.set(scratch, '')
  for (const [at, { table }] of stages.entries()) {
    const file = posix.join(scratch, `common-${at}.fstab`)
    writeFileSync(file, `${table.join('\n')}\n`)
    run('--all', '--fstab', file)
  }
  for (const path of [...toSeal, root]) run('-o', 'remount,bind,ro,nosuid,nodev', path)
  made.set(scratch, state)
  return root
}

function start(program: string, words: readonly string[]): void {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }
  execFileSync(program, ['-n', ...words], { stdio: ['ignore', 'ignore', 'pipe'], env })
}
