import { compareText } from '@polder/spec'
import { z } from 'zod'

import { requireManifest } from '../manifests.ts'
import { aliasOf } from '../specifier.ts'
import { invalidLockfile, type LockfileInput } from './reader.ts'

/** An entry of `package-lock.json` version 1: what is in a `node_modules`, with what is in its own. */
interface NestedEntry {
  /** A version, `npm:real@1.0.0` for an alias, or the source of everything that is not the registry's. */
  readonly version: string
  /** npm 6 wrote `false` for what came in a bundle. */
  readonly resolved?: string | false | undefined
  readonly integrity?: string | undefined
  readonly bundled?: boolean | undefined
  readonly optional?: boolean | undefined
  /** Prod and optional dependencies alike; no peers. Absent for none. */
  readonly requires?: Readonly<Record<string, string>> | boolean | undefined
  readonly dependencies?: Readonly<Record<string, NestedEntry>> | undefined
}

/** What version 2 has at a place. */
interface FlatEntry {
  readonly name?: string
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly link?: boolean
  readonly inBundle?: boolean
  readonly [field: string]: unknown
}

const ENTRY: z.ZodType<NestedEntry> = z.looseObject({
  version: z.string(),
  resolved: z.union([z.string(), z.literal(false)]).optional(),
  integrity: z.string().optional(),
  bundled: z.boolean().optional(),
  optional: z.boolean().optional(),
  requires: z.union([z.record(z.string(), z.string()), z.boolean()]).optional(),
  get dependencies() {
    return z.record(z.string(), ENTRY).optional()
  },
})

const DOCUMENT = z.looseObject({
  requires: z.boolean().optional(),
  dependencies: z.record(z.string(), ENTRY).default({}),
})

// Deeper than any tree that npm makes; a schema that calls itself has to end before the stack does.
const MAX_DEPTH = 200

/**
 * Version 1 (npm 5 and 6) in the terms of version 2: each place on disk and what is there. The root is in
 * `package.json` alone, and so are the manifests of directories that dependencies link to.
 */
export function flattenNested(json: unknown, input: LockfileInput): Readonly<Record<string, FlatEntry>> {
  const { path, directory, manifests } = input
  if (depthOf(json) > MAX_DEPTH * 2) throw invalidLockfile(path, 'its dependencies are nested too deeply')
  const parsed = DOCUMENT.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw invalidLockfile(path, `${issue?.path.join(' → ') ?? ''}: ${issue?.message ?? 'is not as expected'}`)
  }
  const { requires, dependencies } = parsed.data
  const places = new Map<string, NestedEntry>()
  const optional = new Set<string>()
  const walk = (entries: Readonly<Record<string, NestedEntry>>, above: string): void => {
    for (const [name, entry] of Object.entries(entries)) {
      const place = `${above}node_modules/${name}`
      places.set(place, entry)
      if (entry.optional === true) optional.add(place)
      const link = linkOf(entry)
      // What a linked directory requires lies in its own node_modules, wherever the directory is.
      if (entry.dependencies !== undefined) walk(entry.dependencies, `${link ?? place}/`)
    }
  }
  walk(dependencies, '')
  if (requires !== true && places.size > 0) {
    throw invalidLockfile(path, 'it does not say what packages require, as npm before 5.1 wrote it')
  }
  const root = requireManifest(manifests, directory, `${path} locks it`)
  const packages = new Map<string, FlatEntry>([['', root.json]])
  for (const [place, entry] of places) {
    const link = linkOf(entry)
    if (link === null) {
      packages.set(place, entryAt(place, entry, places, optional))
      continue
    }
    packages.set(place, { link: true, resolved: link })
    if (!packages.has(link)) packages.set(link, {})
  }
  return Object.fromEntries([...packages].sort(([a], [b]) => compareText(a, b)))
}

/** The directory that an entry links to, or null for everything that is a package. */
function linkOf({ version }: NestedEntry): string | null {
  if (!version.startsWith('file:') || /\.(?:tgz|tar\.gz|tar)$/i.test(version)) return null
  return version
    .slice('file:'.length)
    .replace(/^\.\/(?=.)/, '')
    .replace(/(?<=.)\/$/, '')
}

function entryAt(
  place: string,
  { version, resolved, integrity, bundled, requires }: NestedEntry,
  places: ReadonlyMap<string, NestedEntry>,
  optional: ReadonlySet<string>,
): FlatEntry {
  const required = Object.entries(typeof requires === 'object' ? requires : {})
  // npm marks what only optional dependencies lead to: the edges to it from what is not so marked are optional ones.
  const isOptional = (name: string): boolean => {
    const target = lookup(place, name, places)
    return !optional.has(place) && target !== undefined && optional.has(target)
  }
  const alias = aliasOf(version)
  const isVersion = /^\d/.test(version)
  const source = isVersion || alias !== null ? (resolved === false ? undefined : resolved) : hosted(version)
  return {
    ...(alias === null ? {} : { name: alias.name }),
    ...(alias === null ? (isVersion ? { version } : {}) : { version: alias.range }),
    ...(source === undefined || source === '' ? {} : { resolved: source }),
    ...(integrity === undefined || integrity === '' || resolved === false ? {} : { integrity }),
    ...(bundled === true || resolved === false ? { inBundle: true } : {}),
    dependencies: Object.fromEntries(required.filter(([name]) => !isOptional(name))),
    optionalDependencies: Object.fromEntries(required.filter(([name]) => isOptional(name))),
  }
}

/** Node's lookup among the places themselves. */
function lookup(place: string, name: string, places: ReadonlyMap<string, NestedEntry>): string | undefined {
  for (let above = place; ; above = above.slice(0, Math.max(above.lastIndexOf('/node_modules/'), 0))) {
    const candidate = above === '' ? `node_modules/${name}` : `${above}/node_modules/${name}`
    if (places.has(candidate)) return candidate
    if (above === '') return undefined
  }
}

/** `github:user/repository#commit`, as npm 6 writes the git hosts that it knows; newer ones write the URL. */
function hosted(version: string): string {
  const [, host = '', repository = '', commit = ''] = /^(github|gitlab|bitbucket):([^#]+)#(.*)$/.exec(version) ?? []
  const domain = HOSTS.get(host)
  return domain === undefined ? version : `git+ssh://git@${domain}/${repository.replace(/\.git$/, '')}.git#${commit}`
}

const HOSTS: ReadonlyMap<string, string> = new Map([
  ['github', 'github.com'],
  ['gitlab', 'gitlab.com'],
  ['bitbucket', 'bitbucket.org'],
])

/** Without recursion, for text that is meant to exhaust the stack. */
function depthOf(json: unknown): number {
  let level: unknown[] = [json]
  for (let depth = 0; ; depth += 1) {
    const below = level.flatMap((value) =>
      typeof value === 'object' && value !== null && 'dependencies' in value
        ? Object.values(value.dependencies ?? {})
        : [],
    )
    if (below.length === 0 || depth > MAX_DEPTH * 2) return depth
    level = below
  }
}
