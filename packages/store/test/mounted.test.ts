import { execFileSync, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test, type TestContext } from 'vitest'

import { writeFailure } from '../src/index.ts'
import { temporaryDirectory } from './support/temporary-store.ts'

const script = fileURLToPath(new URL('support/mounted-store.ts', import.meta.url))

/** Mounts need a namespace: with our own user where the kernel lets us, as root otherwise. */
function inNamespace(context: TestContext, kind: 'full' | 'read-only'): Record<string, unknown> {
  const unshare = ['-rm', '-m'].find(
    (flags) => spawnSync('unshare', [flags, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0,
  )
  if (unshare === undefined)
    context.skip('this machine allows no mount namespace (unshare -rm), which a full or read-only disk needs')
  const stdout = execFileSync('unshare', [String(unshare), process.execPath, script, kind, temporaryDirectory()], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'] },
  })
  return JSON.parse(stdout) as Record<string, unknown>
}

test('a full disk is named, loses nothing, and with room the same calls succeed', (context) => {
  expect(inNamespace(context, 'full')).toEqual({
    artifact: 'DISK_FULL: the disk is full: writing large@1.0.0 to HOME/tmp/artifact-N',
    tree: 'DISK_FULL: the disk is full: unpacking airy@1.0.0 to HOME',
    environment: 'DISK_FULL: the disk is full: making the environment e1 to HOME',
    file: 'DISK_FULL: the disk is full: writing note to HOME/note',
    left: { tmp: [], trees: 1, note: 'old', environment: false },
    'still there': [],
    'with room': { artifact: 'done', tree: 'done', environment: 'done', file: 'done' },
    verified: [],
  })
})

test('a read-only store can be used, and what would have to write to it says so', (context) => {
  expect(inNamespace(context, 'read-only')).toEqual({
    open: 'done',
    read: 'done',
    lease: 'done',
    artifact: 'STORE_UNWRITABLE: writing large@1.0.0: HOME/tmp/artifact-N cannot be written (EROFS)',
    create: 'STORE_UNWRITABLE: creating the store: HOME/new/store/artifacts/sha512 cannot be written (EROFS)',
    tree: 'STORE_UNWRITABLE: unpacking packages: HOME cannot be written (EROFS)',
    environment: 'STORE_UNWRITABLE: making the environment e1: HOME cannot be written (EROFS)',
    root: 'STORE_UNWRITABLE: writing %2Fx: HOME/roots/%2Fx cannot be written (EROFS)',
    collect: 'STORE_UNWRITABLE: locking the store: HOME/locks/collecting cannot be written (EROFS)',
    damaged: expect.stringMatching(
      /^ARTIFACT_CORRUPT: the stored artifact of large@1\.0\.0 is damaged: it has the hash sha512-\S+ \(7 bytes\) instead of sha512-/,
    ) as unknown,
  })
})

test('system errors that are no fault of the disk stay what they are', () => {
  const error = Object.assign(new Error('too many open files'), { code: 'EMFILE' })
  expect(writeFailure(error, 'writing x', '/x')).toBe(error)
  for (const code of ['EACCES', 'EPERM', 'EROFS']) {
    expect(writeFailure(Object.assign(new Error(), { code }), 'writing x', '/x')).toMatchObject({
      code: 'STORE_UNWRITABLE',
      message: `writing x: /x cannot be written (${code})`,
    })
  }
  expect(writeFailure(Object.assign(new Error(), { code: 'EDQUOT' }), 'writing x', '/x')).toMatchObject({
    code: 'DISK_FULL',
  })
})
