import type { Manifest } from '@polder/spec'

import { declaredRequirements } from '../specifier.ts'
import type { Stale } from './reader.ts'

/** npm and bun copy each manifest into the lockfile, so the two are compared as manifests. */
export function differencesFromCopy(service: string, manifest: Manifest, copy: Manifest): Stale[] {
  const [now, then] = [manifest, copy].map(
    (one) => new Map(declaredRequirements(one).map(({ name, specifier }) => [name, specifier])),
  )
  const names = new Set([...(now?.keys() ?? []), ...(then?.keys() ?? [])])
  return (
    [...names]
      // What the manifest alone has is missing from the tree as well, and reported as that.
      .filter((name) => then?.has(name) && now?.get(name) !== then.get(name))
      .map((name) => ({ service, name, manifest: now?.get(name) ?? null, lock: then?.get(name) ?? null }))
  )
}
