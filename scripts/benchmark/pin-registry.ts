import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { gather, readConfig } from '../../packages/gather/src/index.ts'
import { splitPackageId, unpatchedId } from '../../packages/spec/src/index.ts'
import { readArchiveManifest } from '../../packages/store/src/archives/archive.ts'
import { startRegistry } from '../../test/support/registry.ts'
import type { Checkout } from './workspace.ts'
import { packagesOf } from './yaml.ts'

export interface PinRegistry {
  readonly url: string
  readonly packages: number
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
    // A patched pin is the artifact as published.
    const id = unpatchedId(pin.id)
    if (pin.source.kind !== 'registry' || served.has(id)) continue
    const { os, cpu, libc } = pin
    registry.serve(pin.name, pin.reference, { os, cpu, libc })
    served.add(id)
  }
  const lockfile = join(path, 'pnpm-lock.yaml')
  if (existsSync(lockfile)) {
    for (const [id, entry] of Object.entries(packagesOf(lockfile))) {
      // What the lockfile names although nothing leads to it: pnpm asks for it all the same.
      const { name, reference } = splitPackageId(id)
      if (!served.has(id) && !/[:/]/.test(reference)) registry.serve(name, reference, { ...entry })
    }
  }
  return { url: registry.url, packages, close: () => registry.close() }
}
