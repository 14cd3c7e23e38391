import type { NpmLock } from '@polder/lock'
import { renderDerivation, solveStrict, type Derivation } from '@polder/solver'
import { PolderError } from '@polder/spec'

import { ownerName } from './demands.ts'
import { explainSplit } from './explain.ts'
import type { Selection } from './select.ts'

/**
 * Holds the lock to `policy.single`.
 * @throws PolderError `SINGLE_SPLIT` with the demands that no one version satisfies, and, where other versions of what
 * leads to them were locked too, why none of those helps
 */
export function refuseSplits(npm: NpmLock, single: readonly string[], selection: Selection): void {
  for (const name of single) {
    const split = explainSplit(npm, name)
    if (split === undefined) continue
    const others = split.versions.map(({ version, demands }) => {
      const [first] = demands
      const chain = first === undefined || first.path.length < 2 ? '' : ` by way of ${first.path.join(' > ')}`
      const more = demands.length > 1 ? ` and ${demands.length - 1} more` : ''
      return new PolderError(
        'SINGLE_SPLIT',
        `${version} is needed by ${first?.owner ?? 'nobody'} (${first?.range ?? '*'})${more}${chain}`,
      )
    })
    const explanation = whyNoOneVersion(name, single, selection)
    throw new PolderError(
      'SINGLE_SPLIT',
      `${name} must not be split (policy.single), and no locked version satisfies everyone`,
      {
        spec: name,
        others,
        ...(explanation === undefined ? {} : { explanation }),
        hint:
          split.remedies[0] ?? 'change one of these requirements, or take the name out of policy.single in polder.yaml',
      },
    )
  }
}

/**
 * The proof, where it says more than the chains to the versions do: those show one way for each, not that every other
 * way ends in the same.
 */
function whyNoOneVersion(name: string, single: readonly string[], { problem, owners }: Selection): string | undefined {
  const together = single.filter((each) => problem.names.includes(each))
  for (const names of [[name], together]) {
    const singles = names.map((each) => problem.names.indexOf(each))
    const answer = solveStrict(problem, { singles })
    if (answer.kind !== 'failed') continue
    if (!weighsAlternatives(answer.derivation, singles)) return undefined
    return renderDerivation(answer.derivation, problem, {
      ownerName: (number) => {
        const owner = owners[number]
        return owner === undefined ? 'nobody' : ownerName(owner)
      },
      conclusion: `${names.join(' and ')} cannot be kept at one version${names.length > 1 ? ' each' : ''}`,
    })
  }
  return undefined
}

/** True if some demand in the proof leaves a choice between versions of another name. */
function weighsAlternatives(proof: Derivation, singles: readonly number[]): boolean {
  const steps = new Set([proof])
  for (const { cause } of steps) {
    if (cause.kind === 'derived') for (const from of cause.from) steps.add(from)
    else if (cause.allowed.length > 1 && !singles.includes(cause.slot)) return true
  }
  return false
}
