import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

import { compareText } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

import type { Demand, Problem } from '../../src/index.ts'

/** `[kind, name, range]`; kind is `prod`, `dev`, `opt`, `peer` or `peerOpt`. */
type Edge = readonly [kind: string, name: string, range: string]

/** A problem as it is kept in a file: the packages locked anywhere in a repository, with their ranges. */
export interface ProblemFile {
  readonly services: readonly { readonly name: string; readonly edges: readonly Edge[] }[]
  readonly packages: Readonly<Record<string, Readonly<Record<string, { readonly edges: readonly Edge[] }>>>>
  readonly lockedCount?: Readonly<Record<string, number>>
}

/** Plain or gzipped JSON. */
export function readProblemFile(path: string): ProblemFile {
  const bytes = readFileSync(path)
  const text = (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString()
  const file = JSON.parse(text) as Partial<ProblemFile> | null
  if (!Array.isArray(file?.services) || typeof file.packages !== 'object') {
    throw new Error(`${path} holds no problem: it needs "services" and "packages"`)
  }
  return file as ProblemFile
}

export interface CompiledProblem {
  readonly problem: Problem
  /** Per owner its service, or its `name@version`, and what it declares. */
  readonly owners: readonly { readonly label: string; readonly edges: readonly Edge[] }[]
}

/**
 * Ranges become sets of candidates. An edge that no candidate satisfies constrains nothing. Peer edges are hard;
 * optional peers constrain only where `optionalPeers` makes them hard too.
 */
export function compileProblemFile(
  file: ProblemFile,
  { optionalPeers = false }: { readonly optionalPeers?: boolean } = {},
): CompiledProblem {
  const ranges = new RangeCache()
  const names = Object.keys(file.packages).sort(compareText)
  const slots = new Map(names.map((name, slot) => [name, slot]))
  const versions = names.map((name) => Object.keys(file.packages[name] ?? {}).sort((a, b) => ranges.compare(a, b)))
  const allowedOf = new Map<string, readonly number[]>()
  const owners: { label: string; edges: readonly Edge[] }[] = []
  const compile = (label: string, edges: readonly Edge[]): Demand[] => {
    const owner = owners.push({ label, edges }) - 1
    return edges.flatMap(([kind, name, range]) => {
      const slot = slots.get(name)
      if (slot === undefined || (kind === 'peerOpt' && !optionalPeers)) return []
      const key = `${slot} ${range}`
      let allowed = allowedOf.get(key)
      if (allowed === undefined) {
        allowed = (versions[slot] ?? []).flatMap((version, i) => (ranges.satisfies(version, rangeOf(range)) ? [i] : []))
        allowedOf.set(key, allowed)
      }
      return allowed.length === 0 ? [] : [{ slot, allowed, owner }]
    })
  }
  const problem: Problem = {
    names,
    versions,
    roots: file.services.flatMap(({ name, edges }) => compile(name, edges)),
    demands: names.map((name, slot) =>
      (versions[slot] ?? []).map((version) =>
        compile(`${name}@${version}`, file.packages[name]?.[version]?.edges ?? []),
      ),
    ),
    lockedCount: names.map((name, slot) =>
      (versions[slot] ?? []).map((version) => file.lockedCount?.[`${name}@${version}`] ?? 0),
    ),
  }
  return { problem, owners }
}

/** An alias names its target (`npm:string-width@^4.2.0`, `react@^17.0.2`); the candidates are the target's versions. */
function rangeOf(text: string): string {
  return /^(?:npm:)?(?:@[^@/]+\/)?[A-Za-z][^@/: ]*@(.+)$/.exec(text)?.[1] ?? text
}
