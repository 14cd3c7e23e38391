import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { gather, readConfig } from '../../packages/gather/src/index.ts'
import { readArchiveManifest } from '../../packages/store/src/archive.ts'
import { startRegistry, type ServedFields } from '../../test/support/registry.ts'
import type { Checkout } from './workspace.ts'

export interface PinRegistry {
  readonly url: string
  readonly packages: number
  /** Adds the bare document of a version that is not there yet. */
  add(name: string, version: string, manifest: ServedFields): void
  close(): Promise<void>
}

/** A registry on loopback that serves what the store holds, and the bare documents of pins for other platforms. */
export async function startPinRegistry({ path, store }: Checkout): Promise<PinRegistry> {
  const registry = await startRegistry()
  const served = new Set<string>()
  for (const artifact of globSync('artifacts/sha512/*/*', { cwd: store }).sort()) {
    const bytes = readFileSync(join(store, artifact))
    const { manifest } = await readArchiveManifest(bytes, artifact)
    const { name, version } = manifest
    if (name === undefined || version === undefined) continue
    registry.serveArtifact(name, version, bytes)
    served.add(`${name}@${version}`)
  }
  const packages = served.size
  const { pins } = await gather(path, readConfig(path))
  for (const pin of pins.values()) {
    if (pin.source.kind !== 'registry' || served.has(pin.id)) continue
    const { os, cpu, libc } = pin
    registry.serve(pin.name, pin.reference, { os, cpu, libc })
    served.add(pin.id)
  }
  const add: PinRegistry['add'] = (name, version, manifest) => {
    if (served.has(`${name}@${version}`)) return
    served.add(`${name}@${version}`)
    registry.serve(name, version, manifest)
  }
  return { url: registry.url, packages, add, close: () => registry.close() }
}
