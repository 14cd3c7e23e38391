import { compareText } from '@polder/spec'

import { type Manifests, readManifest } from './manifests.ts'
import { discover } from './services.ts'

/** What `polder init` suggests. */
export interface Proposal {
  /** The text of `polder.yaml`. */
  readonly text: string
  /** The directories with a lockfile of their own, sorted: workspaces count once. */
  readonly services: readonly string[]
}

/**
 * Looks for lockfiles and writes a `polder.yaml` that explains itself.
 * @param platform as `platformName` writes it: the platform to lock for
 * @param schema the path or URL of the JSON schema for editors, for the comment in the first line
 * @throws PolderError `LOCKFILE_INVALID` for two clients' lockfiles in one directory; `MANIFEST_INVALID`
 */
export function proposeConfig(root: string, platform: string, schema: string): Proposal {
  const manifests: Manifests = { root, byDirectory: new Map() }
  const { lockfiles } = discover(manifests, { services: null, exclude: [] })
  const services = [...new Set(lockfiles.map(({ directory }) => directory))].sort(compareText)
  const listed = lockfiles.map(({ directory, path }) => {
    const name = readManifest(manifests, directory)?.manifest.name
    return `#   ${path}${name === undefined || !/^[\x21-\x7e]+$/.test(name) ? '' : ` (${name})`}`
  })
  const text = `# yaml-language-server: $schema=${schema}
#
# polder keeps one environment for all services of this repository. Lockfiles found:
${listed.sort(compareText).join('\n')}

# The services: directories or globs. Without this key, every directory with a lockfile is one.
# services:
${(services.length === 0 ? ['services/*'] : services).map((path) => `#   - ${JSON.stringify(path)}`).join('\n')}

# Directories that are no services, as globs.
# exclude:
#   - "**/fixtures"

# The platforms to lock for: polder.lock holds what each of them needs.
platforms:
  - ${platform}

# How versions are chosen. "fewest": as few versions of each package as the declared ranges allow.
policy:
  versions: fewest
# Names that must not be split, such as react: locking fails and says why.
#   single: [react]

# "linked": node_modules holds links into an environment that all checkouts of this machine share.
# "self-contained": everything is inside the checkout, for containers and release trees.
layout: linked

# Packages to accept although their lockfile has no hash for them.
# index:
#   allowWeakIntegrity:
#     - some-package
`
  return { text, services }
}
