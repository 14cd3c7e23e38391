import { homedir } from 'node:os'

import type { Gathered } from '@polder/gather'
import { readNpmConfig } from '@polder/index'

import { duration, type Output } from './output.ts'

type NpmConfig = Awaited<ReturnType<typeof readNpmConfig>>

// Shorter waits are nobody's business.
const WORTH_TELLING_MS = 1000

/**
 * The user's npm configuration for this repository, with the names that it keeps to itself.
 * @param output hears of hosts that are waited for, once of each
 */
export function npmConfigOf(gathered: Gathered, output?: Output): () => Promise<NpmConfig> {
  const told = new Set<string>()
  const onWait: NpmConfig['onWait'] = ({ host, reason, waitMs, left }) => {
    if (waitMs < WORTH_TELLING_MS || told.has(host)) return
    told.add(host)
    output?.note(`polder: ${host} ${reason}; trying again in ${duration(waitMs)} (fetch-retries of npm: ${left} left)`)
  }
  return async () => {
    const [config, { namesMatching }] = await Promise.all([
      readNpmConfig({ cwd: gathered.root, env: process.env, home: homedir() }),
      import('@polder/index/trust'),
    ])
    const named = namesMatching(gathered.config.index.private)
    const own = ownNames(gathered)
    return { ...config, onWait, isPrivate: (name) => named(name) || own.has(name) }
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
