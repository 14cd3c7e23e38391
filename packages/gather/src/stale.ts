import { compareText, PolderError } from '@polder/spec'

import type { Stale } from './lockfiles/reader.ts'
import type { LockfileKind } from './services.ts'
import { directoryOf } from './repository-path.ts'

const MEND: Readonly<Record<LockfileKind, string>> = {
  pnpm: 'pnpm install --lockfile-only',
  rush: 'rush update',
  npm: 'npm install --package-lock-only',
  yarn: 'yarn install',
  bun: 'bun install --lockfile-only',
}

/** One error for all that is stale: the first finding, with the others in its details. */
export function staleError(
  findings: readonly (Stale & { readonly lockfile: string; readonly kind: LockfileKind })[],
): PolderError {
  const errors = [...findings]
    .sort((a, b) => compareText(a.service, b.service) || compareText(a.name, b.name))
    .map(({ service, name, manifest, lock, lockfile, kind }) => {
      const directory = directoryOf(lockfile)
      return new PolderError('LOCKFILE_STALE', `${describe(service, name, manifest, lock, lockfile)}`, {
        path: lockfile,
        spec: name,
        ...(manifest === null ? {} : { wanted: manifest }),
        ...(lock === null ? {} : { found: lock }),
        hint: `run \`${MEND[kind]}\` in ${directory === '.' ? 'the root of the repository' : directory}`,
      })
    })
  const [first, ...others] = errors
  return new PolderError('LOCKFILE_STALE', first?.message ?? 'a lockfile is stale', {
    ...first?.details,
    ...(others.length === 0 ? {} : { others }),
  })
}

function describe(
  service: string,
  name: string,
  manifest: string | null,
  lock: string | null,
  lockfile: string,
): string {
  const who = service === '.' ? 'the package.json of the root' : `${service}/package.json`
  if (lock === null) return `${who} requires "${name}" as "${manifest}", which ${lockfile} does not lock`
  if (manifest === null) return `${lockfile} locks "${name}" as "${lock}", which ${who} does not require`
  return `${who} requires "${name}" as "${manifest}", but ${lockfile} locked it as "${lock}"`
}
