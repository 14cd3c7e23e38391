import type { Integrity } from '@polder/spec'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

import { openStore, writeArtifact, type Store } from '../../src/index.ts'
import { tgz, type Entry } from './tar-writer.ts'

export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'polder-store-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

export function temporaryStore(): Store {
  return openStore(join(temporaryDirectory(), 'home'))
}

export async function put(store: Store, bytes: Buffer, label = 'foo@1.0.0'): Promise<Integrity> {
  return (await writeArtifact(store, chunks(bytes), { expected: null, maxBytes: 2 ** 30, label })).integrity
}

/** Stores the archive of a package with these files. */
export function putPackage(
  store: Store,
  files: Readonly<Record<string, string>>,
  label = 'foo@1.0.0',
): Promise<Integrity> {
  const entries: Entry[] = Object.entries(files).map(([path, data]) => ({ path: `package/${path}`, data }))
  return put(store, tgz(entries), label)
}

export async function* chunks(...parts: readonly (Uint8Array | string)[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield Buffer.from(part as Uint8Array)
}
