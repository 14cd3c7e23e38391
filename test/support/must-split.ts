import semver from 'semver'
import { parse } from 'yaml'

type Ranges = Readonly<Record<string, string>>

interface Declared {
  readonly dependencies?: Ranges
  readonly optionalDependencies?: Ranges
  readonly devDependencies?: Ranges
}

/** What services and locked packages declare, by services and by `name@version`; nothing of who found what. */
export interface Declarations {
  readonly services: readonly Declared[]
  readonly packages: readonly { readonly name: string; readonly version: string; readonly declared: Declared }[]
}

/**
 * The names that no single version can serve. Each name has one version, the one that most of the ranges suit which
 * services and the chosen versions that they lead to declare, the newest of several; what this leads to decides again,
 * until nothing changes. A name has to be split if one of these ranges misses its version. Peers, and ranges that no
 * locked version suits, ask for nothing.
 * @param production without the development dependencies of services
 */
export function mustSplit({ services, packages }: Declarations, production: boolean): readonly string[] {
  const versions = new Map<string, readonly string[]>()
  for (const [name, all] of Map.groupBy(packages, (each) => each.name)) {
    versions.set(
      name,
      [...new Set(all.map(({ version }) => version))].sort((a, b) => semver.rcompare(a, b, true)),
    )
  }
  const byId = Map.groupBy(packages, ({ name, version }) => `${name}@${version}`)
  const needs = ({ dependencies, optionalDependencies }: Declared): readonly (readonly [string, string])[] =>
    Object.entries({ ...dependencies, ...optionalDependencies }).map(([name, range]) => unaliased(name, range))
  const roots = services.flatMap(({ devDependencies, ...rest }) => [
    ...(production ? [] : needs({ dependencies: devDependencies ?? {} })),
    ...needs(rest),
  ])
  const suits = (version: string, range: string): boolean => semver.satisfies(version, range, true)
  let chosen = new Map([...versions].map(([name, [newest = '']]) => [name, newest]))
  for (let round = 0; round < 100; round++) {
    const ranges = new Map<string, Set<string>>()
    const reached = new Set<string>()
    const queue = [roots]
    for (const list of queue) {
      for (const [name, range] of list) {
        if (versions.get(name)?.some((version) => suits(version, range)) !== true) continue
        ranges.set(name, (ranges.get(name) ?? new Set()).add(range))
        const id = `${name}@${chosen.get(name)}`
        if (reached.has(id)) continue
        reached.add(id)
        queue.push((byId.get(id) ?? []).flatMap(({ declared }) => needs(declared)))
      }
    }
    const next = new Map(chosen)
    const split: string[] = []
    for (const [name, all] of ranges) {
      const suited = (version: string): number => [...all].filter((range) => suits(version, range)).length
      const best = (versions.get(name) ?? []).reduce((a, b) => (suited(b) > suited(a) ? b : a))
      next.set(name, best)
      if (suited(best) < all.size) split.push(name)
    }
    if ([...next].every(([name, version]) => chosen.get(name) === version)) return split.sort()
    chosen = next
  }
  throw new Error('the versions never settle')
}

/** `npm:other@^1` asks for the other name. */
function unaliased(name: string, range: string): readonly [string, string] {
  const [, other, wanted = '*'] = /^npm:(@?[^@]+)(?:@(.*))?$/.exec(range) ?? []
  return other === undefined ? [name, range] : [other, wanted]
}

/** @param lock the text of a package-lock.json, version 2 or 3 */
export function declaredInPackageLock(lock: string): Declarations {
  const entries = (JSON.parse(lock) as { packages: Readonly<Record<string, Declared & Identity>> }).packages
  const places = Object.entries(entries).filter(([, { link }]) => link !== true)
  return {
    services: places.flatMap(([place, declared]) => (place === '' ? [declared] : [])),
    packages: places.flatMap(([place, declared]) => {
      const name = declared.name ?? place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length)
      return place === '' ? [] : [{ name, version: declared.version ?? '', declared }]
    }),
  }
}

interface Identity {
  readonly link?: true
  readonly name?: string
  readonly version?: string
}

/**
 * @param lock the text of a yarn.lock, version 1
 * @param manifests the texts of the package.json files of its services
 */
export function declaredInYarnLock(lock: string, manifests: readonly string[]): Declarations {
  const packages = lock.split(/\n(?=\S)/).flatMap((block) => {
    const [, pattern = '', range = ''] = /^"?(@?[^@"]+)@([^",]*)/.exec(block) ?? []
    const version = /^ {2}version "?([^"]+)"?$/m.exec(block)?.[1]
    if (version === undefined) return []
    const lines = block.matchAll(/^ {4}"?([^"\s]+)"? "?([^"]*)"?$/gm)
    const dependencies = Object.fromEntries([...lines].map(([, name = '', wanted = '']) => [name, wanted]))
    return [{ name: unaliased(pattern, range)[0], version, declared: { dependencies } }]
  })
  return { services: manifests.map((text) => JSON.parse(text) as Declared), packages }
}

type Written = Readonly<Record<string, string | { readonly specifier: string }>>

/** @param lock the text of a polder.lock */
export function declaredInPolderLock(lock: string): Declarations {
  const { npm } = parse(lock, { maxAliasCount: -1 }) as {
    npm: {
      packages: Readonly<Record<string, Declared>>
      services: Readonly<Record<string, Readonly<Record<keyof Declared, Written | undefined>>>>
    }
  }
  const ranges = (written: Written = {}): Ranges =>
    Object.fromEntries(Object.entries(written).map(([n, one]) => [n, typeof one === 'string' ? one : one.specifier]))
  return {
    services: Object.values(npm.services).map((service) => ({
      dependencies: ranges(service.dependencies),
      optionalDependencies: ranges(service.optionalDependencies),
      devDependencies: ranges(service.devDependencies),
    })),
    packages: Object.entries(npm.packages).map(([id, declared]) => {
      const plain = id.replace(/\(.*$/, '')
      const at = plain.lastIndexOf('@')
      return { name: plain.slice(0, at), version: plain.slice(at + 1), declared }
    }),
  }
}

export function together(all: readonly Declarations[]): Declarations {
  return { services: all.flatMap(({ services }) => services), packages: all.flatMap(({ packages }) => packages) }
}
