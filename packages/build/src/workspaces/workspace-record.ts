import { hash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { isErrno } from '@polder/spec'
import { atomicWrite } from '@polder/store'

import type { SeenFile } from './checkout-files.ts'
import type { BuildRecord } from '../lifecycle/build-record.ts'

/** What is known of the last time that a workspace package ran its scripts. `.polder/workspaces/<id>.json` of the checkout. */
export interface WorkspaceRecord extends Omit<BuildRecord, 'id' | 'package' | 'format' | 'files' | 'bytes'> {
  readonly format: 1
  readonly path: string
  /** What the outputs follow from. */
  readonly key: string
  /** By path relative to the checkout. */
  readonly inputs: Readonly<Record<string, SeenFile>>
  /** What the scripts made, then or earlier, relative to the package. Sorted. */
  readonly outputs: readonly string[]
  /** Files that they changed though they had not made them; as they were, below `replaced/<id>`. */
  readonly replaced: readonly string[]
  /** Files that were changed by somebody else meanwhile, and stayed so. */
  readonly kept: readonly string[]
}

export function writeWorkspaceRecord(root: string, record: WorkspaceRecord): void {
  mkdirSync(directory(root), { recursive: true })
  atomicWrite(join(directory(root), `${idOf(record.path)}.json`), `${JSON.stringify(record)}\n`, { durable: false })
}

export function writeWorkspaceLog(root: string, path: string, log: Buffer): void {
  mkdirSync(directory(root), { recursive: true })
  atomicWrite(workspaceLogPath(root, path), log, { durable: false })
}

/** Undefined if there is none, or it cannot be read: then the scripts run again. */
export function readWorkspaceRecord(root: string, path: string): WorkspaceRecord | undefined {
  try {
    const text = readFileSync(join(directory(root), `${idOf(path)}.json`), 'utf8')
    const record = JSON.parse(text) as WorkspaceRecord
    return record.format === 1 && record.path === path ? record : undefined
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

export function workspaceLogPath(root: string, path: string): string {
  return join(directory(root), `${idOf(path)}.log`)
}

/** Where files are kept that scripts changed without having made them. */
export function replacedDirectory(root: string, path: string): string {
  return join(directory(root), 'replaced', idOf(path))
}

function directory(root: string): string {
  return join(root, '.polder', 'workspaces')
}

/** `packages+lib-1f0c2a9b3d`: readable, and one for each path. */
function idOf(path: string): string {
  const plain =
    path === '.'
      ? 'root'
      : path
          .replaceAll('/', '+')
          .replaceAll(/[^\w+.-]/g, '_')
          .slice(-80)
  return `${plain}-${hash('sha256', path, 'hex').slice(0, 10)}`
}
