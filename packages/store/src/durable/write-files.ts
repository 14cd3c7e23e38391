import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

import { atomicWrite } from './atomic-write.ts'
import type { Store } from '../content-path.ts'
import { syncFile, syncFileSystemMeanwhile, temporaryPath } from './publish.ts'
import { writeFailure } from './write-failure.ts'

export interface FileToWrite {
  readonly path: string
  readonly text: string
}

// One fsync takes milliseconds, and a file needs two; a syncfs takes as long as some of them.
const FEW = 8

/**
 * Replaces many small files of the store, each as `atomicWrite` does, and all of them durable when this ends: a syncfs
 * for the bytes, the renames, and a syncfs for the names.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function writeFiles(store: Store, files: readonly FileToWrite[]): Promise<void> {
  const staged: { readonly from: string; readonly to: string }[] = []
  try {
    for (const directory of new Set(files.map(({ path }) => dirname(path)))) mkdirSync(directory, { recursive: true })
    if (files.length <= FEW) {
      for (const { path, text } of files) atomicWrite(path, text)
      return
    }
    for (const { path, text } of files) {
      const from = temporaryPath(store, 'file')
      staged.push({ from, to: path })
      writeFileSync(from, text, { flag: 'wx' })
    }
    if (!(await syncFileSystemMeanwhile(store))) for (const { from } of staged) syncFile(from)
    for (const { from, to } of staged) renameSync(from, to)
    if (!(await syncFileSystemMeanwhile(store))) for (const { to } of staged) syncFile(dirname(to))
  } catch (error) {
    for (const { from } of staged) rmSync(from, { force: true })
    throw writeFailure(error, 'writing records', store.home)
  }
}
