import { explainSplit, splitNames, type SplitExplanation } from '@polder/flatten'
import type { Lock } from '@polder/lock'
import { PolderError, splitPackageId } from '@polder/spec'

import { openCheckout } from '../checkout.ts'
import { count, listed, type Output } from '../output.ts'
import { FEW, followsFrom, unknownPackage, verdict } from './why.ts'

/**
 * `polder explain [NAME…]`: the certificate of each split, with the chains behind it and what would mend it; those that
 * others follow from come first.
 */
export function explain(cwd: string, names: readonly string[], output: Output): number {
  const { lock } = openCheckout(cwd)
  for (const name of names) if (standing(lock, name) === undefined) throw unknownPackage(lock, name)
  const wanted = names.length === 0 ? splitNames(lock.npm) : names
  const explanations = wanted.flatMap((name) => explainSplit(lock.npm, name) ?? [])
  for (const explanation of explanations) print(explanation, lock.policy, output)
  const whole = wanted.filter((name) => lock.npm.splits[name] === undefined)
  for (const name of whole) output.line(`${name} is there once: ${standing(lock, name) ?? ''}`)
  if (wanted.length === 0) output.line('Nothing is split: one version of each name satisfies everyone.')
  output.result({ splits: explanations })
  return 0
}

/**
 * `polder dedupe-check --only a,b`: fails with the certificates if one of the names has more than one version.
 * @throws PolderError `DUPLICATES_FOUND`
 */
export function dedupeCheck(cwd: string, only: readonly string[], output: Output): number {
  const { lock } = openCheckout(cwd)
  for (const name of only) if (standing(lock, name) === undefined) throw unknownPackage(lock, name)
  const wanted = only.length === 0 ? splitNames(lock.npm) : only
  const found = wanted.flatMap((name) => explainSplit(lock.npm, name) ?? [])
  if (found.length === 0) {
    output.line(
      `${count(only.length === 0 ? Object.keys(lock.npm.root).length : only.length, 'name')} checked: one version each`,
    )
    output.result({ duplicates: [] })
    return 0
  }
  output.result({ duplicates: found })
  if (output.json) return 1
  for (const explanation of found) print(explanation, lock.policy, output)
  throw new PolderError('DUPLICATES_FOUND', `${found.map(({ name }) => name).join(', ')}: more than one version`, {
    hint: found.flatMap(({ remedies }) => remedies)[0] ?? 'what is said above names who would have to change',
  })
}

/** What has the name at the flat root, or elsewhere: some names are kept off the root. */
function standing({ npm }: Lock, name: string): string | undefined {
  return npm.root[name] ?? Object.keys(npm.instances).find((id) => splitPackageId(id).name === name)
}

const SHOWN = 5

function print(
  { name, versions, proven, follows, followers, remedies }: SplitExplanation,
  policy: Lock['policy'],
  output: Output,
): void {
  output.line(`${output.bold(name)} is kept at ${count(versions.length, 'version')}`)
  const width = Math.max(...versions.map(({ version }) => version.length))
  for (const { version, demands } of versions) {
    const [first] = demands
    const others = demands.length > 1 ? ` and ${count(demands.length - 1, 'other')}` : ''
    output.line(`  ${version.padEnd(width)}  needed by ${first?.owner ?? 'nobody'}${others} (${first?.range ?? '*'})`)
    for (const { path, range } of demands.slice(0, output.verbose ? undefined : SHOWN)) {
      if (path.length > 1) output.line(output.dim(`  ${' '.repeat(width)}    ${path.join(' > ')} (${range})`))
    }
  }
  output.line(`  ${verdict(name, proven, policy)}`)
  if (follows.length > 0) output.line(`  ${followsFrom(follows, output.verbose)}`)
  if (followers.length > 0)
    output.line(
      `  From this ${followers.length === 1 ? 'follows the split' : 'follow the splits'} of ${listed(followers, output.verbose ? undefined : FEW)}.`,
    )
  for (const remedy of remedies) output.line(`  ${output.good(remedy)}`)
}
