import type { Demand, Problem } from '../../src/index.ts'

/** `{ 'foo 1.0.0': { bar: '2.0.0' } }`: versions are listed by text, separated by spaces; `*` is any. */
export type Manifests = Readonly<Record<string, Readonly<Record<string, string>>>>

/** A problem as one writes it in a test: candidates in the order in which they appear, services by name. */
export function namedProblem(
  services: Manifests,
  packages: Manifests,
): { readonly problem: Problem; readonly ownerName: (owner: number) => string } {
  const ids = Object.keys(packages).map((id) => id.split(' ') as [string, string])
  const names = [...new Set(ids.map(([name]) => name))].sort()
  const versions = names.map((name) => ids.filter((id) => id[0] === name).map(([, version]) => version))
  const owners = [...Object.keys(services), ...Object.keys(packages)]
  const demandsOf = (owner: string, manifest: Readonly<Record<string, string>>): Demand[] =>
    Object.entries(manifest).map(([name, wanted]) => {
      const slot = names.indexOf(name)
      const all = versions[slot] ?? []
      const allowed = wanted === '*' ? all.map((_, i) => i) : wanted.split(' ').map((version) => all.indexOf(version))
      return { slot, allowed, owner: owners.indexOf(owner) }
    })
  return {
    problem: {
      names,
      versions,
      roots: Object.entries(services).flatMap(([service, manifest]) => demandsOf(service, manifest)),
      demands: names.map((name, slot) =>
        (versions[slot] ?? []).map((version) => demandsOf(`${name} ${version}`, packages[`${name} ${version}`] ?? {})),
      ),
      lockedCount: versions.map((list) => list.map(() => 0)),
    },
    ownerName: (owner) => owners[owner] ?? '',
  }
}
