import type { Gathered } from '@polder/gather'
import type { LockedPins, UnpinnedVersion } from '@polder/index/server'
import { compareText, unpatchedId } from '@polder/spec'

/**
 * What the repository's lockfiles have of registries and its lock has not. Optional packages of whose name nothing is locked
 * are for other platforms; everything else was flattened away.
 */
export function unpinnedOf({ pins: gathered }: Gathered, { pins }: LockedPins): readonly UnpinnedVersion[] {
  const ids = new Set(pins.map(({ id }) => id))
  const names = new Set(pins.map(({ name }) => name))
  const unpinned = new Map<string, UnpinnedVersion>()
  for (const {
    id,
    name,
    reference: version,
    source,
    integrity,
    optional,
    lockfiles,
    os,
    cpu,
    libc,
  } of gathered.values()) {
    if (source.kind !== 'registry' || ids.has(unpatchedId(id))) continue
    const condition = { ...(os && { os }), ...(cpu && { cpu }), ...(libc && { libc }) }
    const elsewhere = optional && !names.has(name) ? { elsewhere: condition } : {}
    unpinned.set(unpatchedId(id), { name, version, lockfile: lockfiles[0] ?? '', integrity, ...elsewhere })
  }
  return [...unpinned].sort(([a], [b]) => compareText(a, b)).map(([, one]) => one)
}
