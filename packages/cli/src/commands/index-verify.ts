import { resolve } from 'node:path'

import { type Damage, type IndexReport, removeRelease, verifyIndex } from '@polder/index/trust'
import type { Lock } from '@polder/lock'
import { type PackageId, PolderError } from '@polder/spec'
import { discard, openStore, type Store, storeHome, withLease } from '@polder/store'

import { openCheckout } from '../checkout.ts'
import { count, type Output } from '../output.ts'
import { startProgress } from '../progress.ts'
import { syncIndex } from './index-sync.ts'

export interface VerifyFlags {
  /** The whole store, and not only what the lock pins. */
  readonly all: boolean
  readonly heal: boolean
  /** A bundle to heal from. */
  readonly from?: string
}

/**
 * `polder index verify`: hashes everything again that the lock pins, and what was derived from it. To heal is to sync:
 * from a bundle, or else from the upstreams.
 * @throws PolderError `INDEX_DAMAGED` with what is damaged still
 */
export async function indexVerify(cwd: string, output: Output, { all, heal, from }: VerifyFlags): Promise<number> {
  const { lock } = openCheckout(cwd)
  const store = openStore(storeHome(process.env))
  const before = await verified(store, lock, all, output)
  if (before.damage.length === 0 || (!heal && from === undefined)) return report(before, [], output)
  for (const damage of before.damage) output.note(`damaged: ${sentence(damage)}`)
  await putAside(store, before.damage)
  if (from === undefined) await syncIndex(cwd, output)
  else await (await import('@polder/index/bundle')).importBundle(store, resolve(cwd, from))
  const after = await verified(store, lock, all, output)
  const left = new Set(after.damage.map(keyOf))
  return report(
    after,
    before.damage.filter((damage) => !left.has(keyOf(damage))),
    output,
  )
}

async function verified(store: Store, lock: Lock, all: boolean, output: Output): Promise<IndexReport> {
  const progress = startProgress(output, 'Verifying')
  try {
    return await verifyIndex(store, lock, {
      all,
      onProgress: ({ done, total, label }) => {
        progress.update(done, total, label)
      },
    })
  } finally {
    progress.end()
  }
}

/** What is in the way of what comes: damaged artifacts are in quarantine and wrong manifests gone already. */
async function putAside(store: Store, damage: readonly Damage[]): Promise<void> {
  for (const { kind, subject } of damage) {
    if (kind === 'release') for (const id of subject.split(', ')) removeRelease(store, id as PackageId)
  }
  const trees = damage.flatMap(({ tree }) => tree ?? [])
  if (trees.length === 0) return
  await withLease(store, () => {
    discard(store, trees, undefined)
    return Promise.resolve()
  })
}

function report({ damage, ...counts }: IndexReport, healed: readonly Damage[], output: Output): number {
  for (const one of healed) output.line(`healed: ${one.subject} (${one.kind})`)
  output.result({ clean: damage.length === 0, ...counts, damage, healed })
  if (damage.length === 0) {
    const { artifacts, manifests, releases, trees } = counts
    output.line(
      `${count(artifacts, 'artifact')}, ${count(manifests, 'manifest')}, ${count(releases, 'release record')} and ${count(trees, 'tree')} verified`,
    )
    return 0
  }
  if (output.json) return INDEX_DAMAGED
  throw new PolderError(
    'INDEX_DAMAGED',
    `${count(damage.length, 'part')} of the index ${damage.length === 1 ? 'is' : 'are'} damaged`,
    {
      others: damage.map((one) => new PolderError('INDEX_DAMAGED', sentence(one), { spec: one.subject })),
      hint: '`polder index verify --heal` brings them again from the upstreams, `--from FILE` from a bundle',
    },
  )
}

const INDEX_DAMAGED = 5

function sentence({ subject, message, neededBy }: Damage): string {
  const shown = neededBy.slice(0, 3).join(', ')
  const more = neededBy.length > 3 ? ` and ${neededBy.length - 3} others` : ''
  return `${subject} ${message}; needed by ${shown === '' ? 'nobody in this repository' : `${shown}${more}`}`
}

function keyOf({ kind, subject }: Damage): string {
  return `${kind} ${subject}`
}
