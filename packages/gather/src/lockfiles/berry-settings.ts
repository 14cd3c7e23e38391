import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { packageExtensions as builtin } from '@yarnpkg/extensions'
import { parseResolution } from '@yarnpkg/parsers'
import { z } from 'zod'

import { readManifest } from '../manifests.ts'
import { inDirectory } from '../repository-path.ts'
import { parseYarnYaml } from './berry-document.ts'
import { splitDescriptor } from './berry-locator.ts'
import { invalidLockfile, type LockfileInput } from './reader.ts'

/** What changes dependencies between a manifest and the lockfile: yarn records each of them as it was before. */
export interface BerrySettings {
  readonly resolutions: readonly Resolution[]
  readonly catalog: Texts
  readonly catalogs: Readonly<Record<string, Texts>>
  readonly extensions: readonly Extension[]
  /** The files that say so, where they exist. */
  readonly inputs: readonly string[]
}

/** `"resolutions": { "a@npm:1.0.0/b@npm:^2": "npm:2.1.0" }`: the b@^2 that a@1.0.0 requires is b@2.1.0. */
interface Resolution {
  readonly from: { readonly name: string; readonly reference: string | undefined } | null
  readonly name: string
  readonly range: string | undefined
  readonly replacement: string
}

/** What is added to the manifests of some versions of a package; it replaces nothing that is there. */
export interface Extension {
  readonly name: string
  readonly range: string
  readonly dependencies: Texts
  readonly peerDependencies: Texts
  readonly optionalPeers: readonly string[]
}

type Texts = Readonly<Record<string, string>>

const texts = z.record(z.string(), z.string())
const isTrue = z.union([z.literal(true), z.literal('true')])
const EXTENSION = z.looseObject({
  dependencies: texts.nullish(),
  peerDependencies: texts.nullish(),
  peerDependenciesMeta: z.record(z.string(), z.looseObject({ optional: isTrue.optional().catch(undefined) })).nullish(),
})
const SETTINGS = z.looseObject({
  catalog: texts.nullish(),
  catalogs: z.record(z.string(), texts).nullish(),
  packageExtensions: z.record(z.string(), EXTENSION).nullish(),
})

/** What yarn 2 and newer know of published packages that forgot to say what they require. */
const BUILTIN = z.array(z.tuple([z.string(), EXTENSION]))

/** Of the repository alone: what a user or a machine sets beside it is not what was agreed on. */
export function readBerrySettings(input: LockfileInput): BerrySettings {
  const path = inDirectory(input.directory, '.yarnrc.yml')
  const present = existsSync(join(input.root, path))
  const parsed = SETTINGS.safeParse(present ? parseYarnYaml(readFileSync(join(input.root, path), 'utf8'), path) : {})
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw invalidLockfile(path, `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'is not as expected'}`)
  }
  const { catalog, catalogs, packageExtensions } = parsed.data
  return {
    resolutions: resolutionsOf(input),
    catalog: catalog ?? {},
    catalogs: catalogs ?? {},
    extensions: [...BUILTIN.parse(builtin), ...Object.entries(packageExtensions ?? {})].map(extensionOf),
    inputs: present ? [path] : [],
  }
}

function extensionOf([key, extension]: readonly [string, z.infer<typeof EXTENSION>]): Extension {
  const { dependencies, peerDependencies, peerDependenciesMeta } = extension
  const optionalPeers = Object.entries(peerDependenciesMeta ?? {}).flatMap(([name, { optional }]) =>
    optional === undefined ? [] : [name],
  )
  // An optional peer without a range may be anything.
  const anyVersion = Object.fromEntries(optionalPeers.map((name) => [name, '*']))
  return {
    ...splitDescriptor(key),
    dependencies: dependencies ?? {},
    peerDependencies: { ...anyVersion, ...peerDependencies },
    optionalPeers,
  }
}

function resolutionsOf({ directory, manifests }: LockfileInput): Resolution[] {
  const field = texts.safeParse(readManifest(manifests, directory)?.json['resolutions'] ?? {})
  const path = inDirectory(directory, 'package.json')
  if (!field.success) throw invalidLockfile(path, 'its resolutions are not as expected')
  return Object.entries(field.data).map(([key, replacement]) => {
    try {
      const { from, descriptor } = parseResolution(key.replace(/^\*\*\//, ''))
      return {
        from: from === undefined ? null : { name: from.fullName, reference: from.description },
        name: descriptor.fullName,
        range: descriptor.description,
        replacement,
      }
    } catch (cause) {
      throw invalidLockfile(path, `"${key}" is no resolution: ${(cause as Error).message.split('\n')[0] ?? ''}`, cause)
    }
  })
}

/** What a resolution makes of a dependency of `owner` (a locator), or undefined where none applies. */
export function resolvedRange(settings: BerrySettings, owner: string, name: string, range: string): string | undefined {
  const { name: ownerName, range: ownerReference } = splitDescriptor(owner)
  return settings.resolutions.find(
    (one) =>
      one.name === name &&
      (one.range === undefined || same(one.range, range)) &&
      (one.from === null ||
        (one.from.name === ownerName &&
          (one.from.reference === undefined || same(one.from.reference, ownerReference)))),
  )?.replacement
}

/** Ranges without a protocol are npm's. */
export function same(a: string, b: string): boolean {
  return a === b || `npm:${a}` === b || a === `npm:${b}`
}

/** What `catalog:` or `catalog:NAME` means for a name; any other range is itself. */
export function catalogRange({ catalog, catalogs }: BerrySettings, name: string, range: string): string {
  if (!range.startsWith('catalog:')) return range
  const chosen = range.slice('catalog:'.length).trim()
  const entries =
    chosen === '' || chosen === 'default' ? catalog : Object.hasOwn(catalogs, chosen) ? catalogs[chosen] : undefined
  return (entries !== undefined && Object.hasOwn(entries, name) ? entries[name] : undefined) ?? range
}
