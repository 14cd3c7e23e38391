import { spawn } from 'node:child_process'
import { join } from 'node:path'

import type { Store } from '../content-path.ts'

/** Makes what was written to the store's file system durable, again and again, while this process goes on. */
export interface Syncer {
  /** Resolves when all that was written before is on the disk; false if that cannot be had here. */
  sync(): Promise<boolean>
  close(): void
}

/**
 * One shell for all calls of `sync -f`, started while this process is small: starting a program takes a copy of the
 * page tables, and then a page fault for each page that is written to, which for a process that holds archives in memory
 * takes longer than the call. It ends with its input, also if this process is killed.
 */
export function startSyncer(store: Store): Syncer {
  const waiting: ((synced: boolean) => void)[] = []
  let usable = process.platform === 'linux'
  const script = 'while read -r _; do if sync -f "$0"; then echo y; else echo n; fi; done'
  const shell = spawn('sh', ['-c', script, join(store.home, 'tmp')], { stdio: ['pipe', 'pipe', 'ignore'] })
  const fail = (): void => {
    usable = false
    for (const answer of waiting.splice(0)) answer(false)
  }
  shell.on('error', fail)
  shell.on('exit', fail)
  shell.stdin.on('error', fail)
  shell.stdout.setEncoding('latin1').on('data', (answers: string) => {
    for (const answer of answers.replaceAll('\n', '')) waiting.shift()?.(answer === 'y')
  })
  return {
    sync() {
      if (!usable) return Promise.resolve(false)
      return new Promise((resolve) => {
        waiting.push(resolve)
        shell.stdin.write('\n')
      })
    },
    close() {
      shell.stdin.end()
    },
  }
}
