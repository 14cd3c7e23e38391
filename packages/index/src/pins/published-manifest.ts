import { PolderError } from '@polder/spec'

/** What a dependency of a workspace package stands for, as its lockfile has it. */
export interface Resolved {
  /** The real name, behind any alias. */
  readonly name: string
  /** Undefined for a workspace package that has none. */
  readonly version: string | undefined
  /** The range behind a catalog; null where only that version will do. */
  readonly range: string | null
}

type Json = Readonly<Record<string, unknown>>

const DEPENDENCIES = ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies']
// pnpm's list (exportable-manifest): what publishConfig may say otherwise than the manifest of the repository.
const PUBLISHED = [
  'bin type imports main module typings types exports browser esnext es2015 unpkg umd:main os cpu libc typesVersions engines',
].flatMap((line) => line.split(' '))
// They only concern whoever develops or publishes the package.
const SCRIPTS = ['prepublishOnly', 'prepack', 'prepare', 'postpack', 'publish', 'postpublish']

/**
 * The manifest of a workspace package as `pnpm publish` would make it (pnpm's documentation of the workspace protocol,
 * of catalogs and of publishConfig): nothing in it needs the workspace any more. Dependencies on directories, which
 * pnpm leaves alone, become the versions that those directories have.
 * @param path of the manifest, named in errors
 * @throws PolderError `MANIFEST_INVALID` if a dependency cannot be said without the workspace
 */
export function publishedManifest(
  manifest: Json,
  path: string,
  resolve: (name: string) => Resolved | undefined,
): Record<string, unknown> {
  const { publishConfig, scripts } = manifest
  const published = Object.fromEntries(
    Object.entries(manifest).filter(
      ([field]) => !['pnpm', 'packageManager', 'devEngines', 'publishConfig'].includes(field),
    ),
  )
  if (isRecord(publishConfig)) {
    if (typeof publishConfig['directory'] === 'string') {
      throw new PolderError('MANIFEST_INVALID', `${path} publishes the directory ${publishConfig['directory']}`, {
        path,
        hint: 'pack it with its own client, and `polder index add` the tarball',
      })
    }
    for (const field of PUBLISHED) if (Object.hasOwn(publishConfig, field)) published[field] = publishConfig[field]
  }
  if (isRecord(scripts))
    published['scripts'] = Object.fromEntries(Object.entries(scripts).filter(([name]) => !SCRIPTS.includes(name)))
  for (const field of DEPENDENCIES) {
    const group = published[field]
    if (!isRecord(group)) continue
    published[field] = Object.fromEntries(
      Object.entries(group).map(([name, specifier]) => [
        name,
        typeof specifier === 'string' ? publishedSpecifier(name, specifier, path, resolve) : specifier,
      ]),
    )
  }
  return published
}

/**
 *     workspace:*        1.2.3            workspace:^1.0.0       ^1.0.0
 *     workspace:^        ^1.2.3           workspace:other@~      npm:other@~1.2.3
 *     catalog:           ^1.0.0           link:../lib            1.2.3
 */
function publishedSpecifier(
  name: string,
  specifier: string,
  path: string,
  resolve: (name: string) => Resolved | undefined,
): string {
  const protocol = /^(workspace|catalog|link|portal|file):/.exec(specifier)?.[1]
  if (protocol === undefined) return specifier
  const found = resolve(name)
  // A tarball in the repository, for example: nobody who has only the index can have it.
  if (found === undefined || (protocol === 'file' && found.version === undefined)) {
    throw new PolderError(
      'MANIFEST_INVALID',
      `${path} requires ${name} as ${specifier}, which only its repository has`,
      {
        path,
        spec: name,
        hint: 'require a version of it, and pin that with `polder index add`',
      },
    )
  }
  const range =
    protocol === 'workspace' ? workspaceRange(specifier, found, path) : (found.range ?? versionOf(found, path))
  return found.name === name ? range : `npm:${found.name}@${range}`
}

function workspaceRange(specifier: string, found: Resolved, path: string): string {
  const rest = specifier.slice('workspace:'.length)
  const asked = rest.startsWith(`${found.name}@`) ? rest.slice(found.name.length + 1) : rest
  if (asked === '^' || asked === '~') return `${asked}${versionOf(found, path)}`
  return asked === '' || asked === '*' || /^\.{0,2}\/|^\.{1,2}$/.test(asked) ? versionOf(found, path) : asked
}

function versionOf({ name, version }: Resolved, path: string): string {
  if (version !== undefined) return version
  throw new PolderError('MANIFEST_INVALID', `${path} requires the workspace package ${name}, which has no version`, {
    path,
    spec: name,
    hint: `give ${name} a version`,
  })
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** True for scripts that npm and pnpm run before they pack a commit; packages of a registry were packed after that. */
export function isPrepared(scripts: unknown): boolean {
  const isRecord = typeof scripts === 'object' && scripts !== null
  return isRecord && ['prepare', 'prepack', 'prepublish'].some((script) => Object.hasOwn(scripts, script))
}
