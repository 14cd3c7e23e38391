import { z } from 'zod'

import { PolderError } from './error.ts'
import { compareText, isPackageName, sortKeys } from './package-id.ts'
import type { PlatformCondition } from './platform.ts'

/**
 * What polder needs of a `package.json`, validated and with one form for each fact
 * (npm's "package.json" document). Records are sorted and have no prototype.
 */
export interface Manifest extends PlatformCondition {
  readonly name?: string
  readonly version?: string
  readonly dependencies: Readonly<Record<string, string>>
  readonly devDependencies: Readonly<Record<string, string>>
  /** Names here are removed from `dependencies`, as npm does. */
  readonly optionalDependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
  /** The peers that `peerDependenciesMeta` marks optional (with or without a range), sorted. */
  readonly optionalPeers: readonly string[]
  /** Shipped inside the package's own `node_modules`; never resolved by us. */
  readonly bundled: readonly string[]
  readonly engines: Readonly<Record<string, string>>
  /** Command → file inside the package, POSIX, relative, without `./`. */
  readonly bin: Readonly<Record<string, string>>
  readonly scripts: Readonly<Record<string, string>>
}

/** The scripts a package manager runs on installation, which polder lists as "not built". */
const INSTALL_SCRIPTS: readonly string[] = ['preinstall', 'install', 'postinstall']

/**
 * Parses a `package.json` document.
 * Unknown and oddly typed fields that polder does not use are ignored, as every client does; a field that polder
 * uses must be well formed, and names or paths that could leave the package are refused.
 * @param path named in the error
 * @throws PolderError `MANIFEST_INVALID`
 */
export function parseManifest(text: string, path: string): Manifest {
  let json: unknown
  try {
    json = JSON.parse(text.startsWith('\uFEFF') ? text.slice(1) : text)
  } catch (cause) {
    throw new PolderError('MANIFEST_INVALID', `${path} is not JSON: ${(cause as Error).message}`, { path, cause })
  }
  return manifestFromJson(json, path)
}

/** As {@link parseManifest}, of a document that is parsed already (a lockfile's or a registry's). */
export function manifestFromJson(json: unknown, path: string): Manifest {
  const parsed = DOCUMENT.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    const where = issue?.path.join('.') ?? ''
    throw new PolderError(
      'MANIFEST_INVALID',
      `${path}: ${where === '' ? 'the document' : `"${where}"`} ${issue?.message ?? 'is invalid'}`,
      {
        path,
        hint: "see npm's documentation of package.json",
      },
    )
  }
  const document = parsed.data
  const optionalDependencies = requirements(document.optionalDependencies, path)
  const dependencies = requirements(document.dependencies, path)
  for (const name of Object.keys(optionalDependencies)) delete dependencies[name]
  const optionalPeers = Object.entries(document.peerDependenciesMeta ?? {})
    .filter(([, meta]) => meta?.optional === true)
    .map(([name]) => name)
  // The names in peerDependenciesMeta are as hostile as all others.
  const anyVersion = requirements(Object.fromEntries(optionalPeers.map((name) => [name, '*'])), path)
  const peerDependencies = { ...anyVersion, ...requirements(document.peerDependencies, path) }
  const bundled = document.bundledDependencies ?? document.bundleDependencies ?? []
  return {
    ...(document.name === undefined ? {} : { name: document.name }),
    ...(document.version === undefined ? {} : { version: document.version }),
    dependencies,
    devDependencies: requirements(document.devDependencies, path),
    optionalDependencies,
    peerDependencies: sortKeys(peerDependencies),
    optionalPeers: optionalPeers.sort(compareText),
    bundled: (bundled === true ? Object.keys(dependencies) : bundled === false ? [] : [...bundled]).sort(compareText),
    engines: sortKeys(Array.isArray(document.engines) ? {} : (document.engines ?? {})),
    bin: bins(document, path),
    scripts: sortKeys(strings(document.scripts)),
    ...condition('os', document.os),
    ...condition('cpu', document.cpu),
    ...condition('libc', document.libc),
  }
}

/** The install scripts that a package declares; npm adds `node-gyp rebuild` where there is a `binding.gyp`. */
export function installScripts(manifest: Manifest, hasBindingGyp: boolean): readonly string[] {
  const declared = INSTALL_SCRIPTS.filter((script) => Object.hasOwn(manifest.scripts, script))
  return declared.length === 0 && hasBindingGyp ? ['install'] : declared
}

// The "as every client does" part: fields of the wrong type that clients tolerate become undefined.
const text = z.string()
const lenient = <T extends z.ZodType>(schema: T): z.ZodCatch<z.ZodOptional<T>> => schema.optional().catch(undefined)
const ranges = z.record(z.string(), z.unknown()).nullish()
const list = lenient(z.union([text.transform((value) => [value]), z.array(text)]))

const DOCUMENT = z.looseObject({
  name: lenient(text),
  version: lenient(text),
  dependencies: ranges,
  devDependencies: ranges,
  optionalDependencies: ranges,
  peerDependencies: ranges,
  peerDependenciesMeta: lenient(
    z.record(
      z.string(),
      z
        .looseObject({ optional: lenient(z.boolean()) })
        .nullish()
        .catch(undefined),
    ),
  ),
  bundledDependencies: lenient(z.union([z.boolean(), z.array(text)])),
  bundleDependencies: lenient(z.union([z.boolean(), z.array(text)])),
  engines: lenient(z.union([z.record(z.string(), text), z.array(z.unknown())])),
  bin: z.unknown().optional(),
  scripts: lenient(z.record(z.string(), z.unknown())),
  os: list,
  cpu: list,
  libc: list,
})

function requirements(
  record: Readonly<Record<string, unknown>> | null | undefined,
  path: string,
): Record<string, string> {
  const checked: Record<string, string> = Object.create(null) as Record<string, string>
  for (const [name, range] of Object.entries(record ?? {}).sort(([a], [b]) => compareText(a, b))) {
    if (typeof range !== 'string') continue
    if (!isPackageName(name)) {
      throw new PolderError(
        'MANIFEST_INVALID',
        `${path} depends on ${JSON.stringify(name)}, which is no package name`,
        { path, spec: name },
      )
    }
    checked[name] = range.trim()
  }
  return checked
}

function bins(document: z.infer<typeof DOCUMENT>, path: string): Record<string, string> {
  const { bin, name } = document
  const entries: [string, unknown][] =
    typeof bin === 'string'
      ? name === undefined
        ? []
        : [[name.replace(/^@[^/]+\//, ''), bin]]
      : typeof bin === 'object' && bin !== null
        ? Object.entries(bin)
        : []
  const checked: Record<string, string> = Object.create(null) as Record<string, string>
  for (const [command, target] of entries.sort(([a], [b]) => compareText(a, b))) {
    if (typeof target !== 'string' || target === '') continue
    const file = target.replaceAll('\\', '/').replace(/^(?:\.?\/)+/, '')
    const safeCommand = /^[A-Za-z0-9@._~+-][A-Za-z0-9._~+-]*$/.test(command) && command !== '.' && command !== '..'
    const safeFile =
      file !== '' && !file.split('/').includes('..') && !/[\0-\x1f\x7f]/.test(file) && !/^[A-Za-z]:/.test(file)
    if (!safeCommand || !safeFile) {
      throw new PolderError(
        'MANIFEST_INVALID',
        `${path} declares the command ${JSON.stringify(command)} as ${JSON.stringify(target)}, which leaves the package`,
        {
          path,
          found: target,
        },
      )
    }
    checked[command] = file
  }
  return checked
}

function strings(record: Readonly<Record<string, unknown>> | undefined): Record<string, string> {
  const kept: Record<string, string> = {}
  for (const [key, value] of Object.entries(record ?? {}))
    if (typeof value === 'string' && key !== '__proto__') kept[key] = value
  return kept
}

function condition<K extends 'os' | 'cpu' | 'libc'>(
  field: K,
  values: readonly string[] | undefined,
): { readonly [P in K]?: readonly string[] } {
  return values === undefined || values.length === 0
    ? {}
    : ({ [field]: values } as { readonly [P in K]?: readonly string[] })
}
