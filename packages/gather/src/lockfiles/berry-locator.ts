import { type PackageSource, PolderError } from '@polder/spec'

import { resolveInRepository } from '../repository-path.ts'
import { checkedName, invalidLockfile, type LockfileInput } from './reader.ts'

/** What a locator of yarn's stands for. */
export type Place =
  /** `reference` as in the id after the name. */
  | {
      readonly kind: 'package'
      readonly name: string
      readonly reference: string
      readonly source: PackageSource
      readonly patch: PatchLink | null
      /** Yarn patches it by itself, for Plug'n'Play: `optional!builtin<compat/typescript>`. */
      readonly builtin: boolean
    }
  /** A workspace, or a directory that a dependency links to or copies. */
  | { readonly kind: 'workspace' | 'directory'; readonly path: string }

/** A patch file, as seen from a directory. */
interface PatchLink {
  readonly directory: string
  readonly link: string
}

/** `typescript@patch:…` is `typescript` and `patch:…`. */
export function splitDescriptor(text: string): { readonly name: string; readonly range: string } {
  const at = text.indexOf('@', 1)
  return at < 0 ? { name: text, range: '' } : { name: text.slice(0, at), range: text.slice(at + 1) }
}

/** The parts of `protocol:source#selector::parameters` (yarn's `structUtils.parseRange`). */
export function parseRange(range: string): {
  readonly protocol: string
  readonly source: string
  readonly selector: string
  readonly parameters: URLSearchParams
} {
  const [, protocol = '', source = '', selector = '', parameters = ''] =
    /^([^#:]*:)?((?:(?!::)[^#])*)(?:#((?:(?!::).)*))?(?:::(.*))?$/s.exec(range) ?? []
  return { protocol, source, selector, parameters: new URLSearchParams(parameters) }
}

/**
 * @throws PolderError `SOURCE_UNSUPPORTED` for what is not npm's, a tarball, a directory or a git commit, and for
 * paths that lead out of the repository; `LOCKFILE_INVALID`
 */
export function placeOf(locator: string, input: LockfileInput): Place {
  const { name, range } = splitDescriptor(locator)
  checkedName(name, input.path)
  const { protocol, source, selector, parameters } = parseRange(range)
  const what = `${name} in ${input.path}`
  const packageAt = (reference: string, from: PackageSource): Place => {
    return { kind: 'package', name, reference, source: from, patch: null, builtin: false }
  }
  switch (protocol) {
    case 'npm:':
      return packageAt(source, { kind: 'registry' })
    case 'workspace:':
      return { kind: 'workspace', path: resolveInRepository(input.directory, source, what) }
    case 'patch:': {
      const inner = placeOf(decoded(source, input), input)
      if (inner.kind !== 'package') throw unsupported(what, range, input)
      const all = selector.split('&').map((patch) => patch.replace(/^(?:optional!|~(?!\/))+/, ''))
      const files = all.filter((patch) => !patch.startsWith('builtin<'))
      const builtin = inner.builtin || files.length < all.length
      const [file] = files
      if (file === undefined) return { ...inner, builtin }
      if (files.length > 1 || inner.patch !== null) throw severalPatches(what, range, input)
      return { ...inner, builtin, patch: patchLink(file, parameters.get('locator'), input) }
    }
    case 'portal:':
    case 'link:':
    case 'file:': {
      // A path of its own is relative to whoever names it.
      const above = parameters.get('locator')
      const path = resolveInRepository(above === null ? input.directory : directoryOf(above, input), source, what)
      return protocol === 'file:' && isTarball(source)
        ? packageAt(`file:${path}`, { kind: 'file', path })
        : { kind: 'directory', path }
    }
    default: {
      const { commit, rest } = gitSelector(selector)
      const url = `${protocol}${source}`
      if (commit !== null) {
        if (rest || !/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/.test(commit)) throw unsupported(what, range, input)
        return packageAt(`${url}#${commit}`, { kind: 'git', url, commit })
      }
      if (!/^https?:$/.test(protocol) || !/^\/\/[^/]/.test(source)) throw unsupported(what, range, input)
      return packageAt(url, { kind: 'tarball', url })
    }
  }
}

/** A directory as seen by the paths in its manifest. */
function directoryOf(locator: string, input: LockfileInput): string {
  const place = placeOf(locator, input)
  // A package cannot name directories of ours, wherever it says that they are.
  if (place.kind === 'package') throw unsupported(`a dependency of ${locator} in ${input.path}`, 'a path', input)
  return place.path
}

/** `commit=<hash>`; a package in a subdirectory of the commit has more than that. */
function gitSelector(selector: string): { readonly commit: string | null; readonly rest: boolean } {
  const parameters = new URLSearchParams(selector)
  return { commit: parameters.get('commit'), rest: [...parameters.keys()].some((key) => key !== 'commit') }
}

/** `~/` is the project; any other path is relative to whoever names it. */
function patchLink(file: string, locator: string | null, input: LockfileInput): PatchLink {
  if (file.startsWith('~/')) return { directory: input.directory, link: file.slice('~/'.length) }
  return { directory: locator === null ? input.directory : directoryOf(locator, input), link: file }
}

function isTarball(source: string): boolean {
  return /\.(?:tgz|tar\.gz)$/i.test(source)
}

function decoded(text: string, { path }: LockfileInput): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw invalidLockfile(path, `"${text}" is no locator`, cause)
  }
}

function severalPatches(what: string, range: string, { path }: LockfileInput): PolderError {
  return new PolderError('SOURCE_UNSUPPORTED', `${what} has several patches, and polder applies one`, {
    path,
    found: range,
    hint: 'make one patch of them: `yarn patch`, apply them all, `yarn patch-commit`',
  })
}

function unsupported(what: string, range: string, { path }: LockfileInput): PolderError {
  return new PolderError('SOURCE_UNSUPPORTED', `${what} comes from ${range}, which is no source that polder knows`, {
    path,
    found: range,
    hint: 'registry packages, http(s) tarballs, files and directories in the repository and git commits are',
  })
}
