import { compareText, type Manifest } from '@polder/spec'
import type { RangeCache } from '@polder/spec/semver-ranges'

import type { RequirementKind } from './gathered.ts'

/** A line of a manifest: who is required, and how. */
export interface Declared {
  readonly name: string
  readonly kind: RequirementKind
  readonly specifier: string
}

/**
 * What a manifest requires, one line a name, sorted. A name that is listed twice counts for what makes it hardest:
 * a library's own peer that it also has for development is a `dev` requirement of the library itself.
 */
export function declaredRequirements(manifest: Manifest): Declared[] {
  const optionalPeers = new Set(manifest.optionalPeers)
  const declared = new Map<string, Declared>()
  const add = (record: Readonly<Record<string, string>>, kindOf: (name: string) => RequirementKind): void => {
    for (const [name, specifier] of Object.entries(record)) {
      if (!declared.has(name)) declared.set(name, { name, kind: kindOf(name), specifier })
    }
  }
  add(manifest.optionalDependencies, () => 'optional')
  add(manifest.dependencies, () => 'prod')
  add(manifest.devDependencies, () => 'dev')
  add(manifest.peerDependencies, (name) => (optionalPeers.has(name) ? 'optionalPeer' : 'peer'))
  return [...declared.values()].sort((a, b) => compareText(a.name, b.name))
}

/**
 * The npm range of a specifier: `^1.0.0` of `^1.0.0` and of `npm:other@^1.0.0`. Null for tags, URLs, paths and the
 * workspace protocol, where only what the lockfile chose will do. Catalogs are the caller's to resolve.
 */
export function rangeOf(specifier: string, ranges: RangeCache): string | null {
  const text = aliasOf(specifier)?.range ?? specifier
  if (text === '') return '*'
  return ranges.isRange(text) ? text : null
}

/** `npm:@scope/real@^1` is `@scope/real` and `^1`. */
export function aliasOf(specifier: string): { readonly name: string; readonly range: string } | null {
  if (!specifier.startsWith('npm:')) return null
  const target = specifier.slice('npm:'.length)
  const at = target.indexOf('@', 1)
  return at < 0 ? { name: target, range: '' } : { name: target.slice(0, at), range: target.slice(at + 1) }
}
