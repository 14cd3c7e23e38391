import { homedir } from 'node:os'

import type { Gathered } from '@polder/gather'
import { readNpmConfig } from '@polder/index'

type NpmConfig = Awaited<ReturnType<typeof readNpmConfig>>

/** The user's npm configuration for this repository, with the names that it keeps to itself. */
export function npmConfigOf(gathered: Gathered): () => Promise<NpmConfig> {
  return async () => {
    const [config, { namesMatching }] = await Promise.all([
      readNpmConfig({ cwd: gathered.root, env: process.env, home: homedir() }),
      import('@polder/index/trust'),
    ])
    const named = namesMatching(gathered.config.index.private)
    const own = ownNames(gathered)
    return { ...config, isPrivate: (name) => named(name) || own.has(name) }
  }
}

/**
 * The names of the repository's own packages: of workspace packages, and of what `polder index add` marked private. What
 * a lockfile has under such a name with a hash is published and wanted, as where a repository uses an older release of
 * itself; nothing else can come under the hash. Without a hash it is what dependency confusion is made of.
 */
function ownNames({ services, pins, additions, config }: Gathered): ReadonlySet<string> {
  const names = new Set(services.flatMap(({ manifest }) => manifest.name ?? []))
  for (const { name, integrity, source } of pins.values())
    if (integrity !== null && source.kind === 'registry') names.delete(name)
  for (const name of config.index.allowWeakIntegrity) names.delete(name)
  for (const [id, { private: isPrivate }] of Object.entries(additions?.packages ?? {}))
    if (isPrivate === true) names.add(id.slice(0, id.indexOf('@', 1)))
  return names
}
