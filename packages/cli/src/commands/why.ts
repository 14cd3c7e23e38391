import { reasonsFor } from '@polder/flatten'
import type { Lock } from '@polder/lock'
import { PolderError, splitPackageId } from '@polder/spec'

import { findService, nearestText, openCheckout } from '../checkout.ts'
import { count, listed, type Output, printFirst } from '../output.ts'

/**
 * `polder why NAME`: for each version in the environment who needs it, with which range, over which path, and why it
 * is this version.
 */
export function why(cwd: string, name: string, serviceName: string | undefined, output: Output): number {
  const { lock } = openCheckout(cwd)
  const service = serviceName === undefined ? undefined : findService(lock.npm.services, serviceName)
  const versions = reasonsFor(lock.npm, name, service)
  if (versions.size === 0) throw unknownPackage(lock, name, service)
  const split = lock.npm.splits[name]
  const atRoot = lock.npm.root[name]
  for (const [target, reasons] of versions) {
    output.line(`${output.bold(target)}${target === atRoot ? '' : output.dim('  (a variant; not at the flat root)')}`)
    printFirst(output, reasons, { shown: SHOWN, indent: '  ' }, ({ owner, range, path }) => {
      output.line(`  ${owner} needs ${range}${path.length > 1 ? output.dim(`   ${path.join(' > ')}`) : ''}`)
    })
  }
  output.line()
  output.line(choice(name, versions.size, lock))
  output.result({ name, root: atRoot ?? null, split: split ?? null, versions: Object.fromEntries(versions) })
  return 0
}

const SHOWN = 15

/** The error for a name that is not in the lock, with the nearest that is. */
export function unknownPackage(lock: Lock, name: string, service?: string): PolderError {
  const known = [...new Set(Object.keys(lock.npm.instances).map((id) => splitPackageId(id).name))]
  const nearest = nearestText(name, known)
  return new PolderError(
    'PACKAGE_UNKNOWN',
    `${name} is not in the environment${service === undefined ? '' : ` of ${service}`}`,
    {
      spec: name,
      hint: nearest === undefined ? 'names are install names, as in package.json' : `did you mean ${nearest}?`,
    },
  )
}

function choice(name: string, versions: number, { npm, policy }: Lock): string {
  const split = npm.splits[name]
  if (split === undefined) {
    return versions === 1
      ? `One version satisfies everyone who needs ${name}.`
      : `One version of ${name}, once for each set of peers that it is used with.`
  }
  const demands = Object.entries(split.versions).map(([version, { range, owner, owners }]) => {
    const others = owners > 1 ? ` (and ${count(owners - 1, 'other')})` : ''
    return `  ${version} is the only one kept that ${owner}${others} accepts: ${range}`
  })
  const causes = split.follows === undefined ? [] : [followsFrom(split.follows, false)]
  const kept = `${name} is kept at ${Object.keys(split.versions).length} versions:`
  return [kept, ...demands, verdict(name, split.proven, policy), ...causes].join('\n')
}

/** Whether a split has to be, or is what the policy wants. */
export function verdict(name: string, proven: boolean, policy: Lock['policy']): string {
  const reason = policy.split?.[name]
  if (reason !== undefined) return `It is kept apart on purpose: ${reason} (policy.split).`
  if (policy.versions === 'highest')
    return 'Each has the newest that is locked of its range (policy.versions: highest).'
  return proven ? 'No locked version satisfies any two of these.' : 'That no fewer would do is not proven.'
}

/** How many names stand in a sentence. */
export const FEW = 5

/** Why a split is there that is not first-hand. */
export function followsFrom(causes: readonly string[], all: boolean): string {
  return `It follows from the ${causes.length === 1 ? 'split' : 'splits'} of ${listed(causes, all ? undefined : FEW)}.`
}
