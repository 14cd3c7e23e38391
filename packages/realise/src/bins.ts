import type { NpmLock, Target } from '@polder/lock'
import { compareText, sortKeys } from '@polder/spec'

import type { PlannedLink } from './planned.ts'
import { isWorkspace, lockInvalid, lookUp } from './reach.ts'

/** A package as a service (or the flat root) sees it: its install name, what it is, and where it is found. */
export interface Offer {
  readonly name: string
  readonly target: Target
  /** Relative to the checkout: `node_modules/typescript`. */
  readonly path: string
}

/** Who a command belongs to. */
export interface Command {
  readonly target: Target
  /** The command's file, relative to the checkout. */
  readonly file: string
}

/**
 * Gives each command to one of the packages that offer it: to the lowest `rank`, then to the first by name.
 * @throws PolderError `LOCK_INVALID` for a command that is no file name
 */
export function chooseCommands(
  npm: NpmLock,
  offers: readonly Offer[],
  rank: (offer: Offer, command: string) => number,
): ReadonlyMap<string, Command> {
  const chosen = new Map<string, { readonly rank: number; readonly name: string; readonly command: Command }>()
  for (const offer of offers) {
    for (const [command, file] of Object.entries(binOf(npm, offer.target))) {
      if (!/^[A-Za-z0-9@._~+-]+$/.test(command) || command === '.' || command === '..') {
        throw lockInvalid(
          `${offer.target} offers the command ${JSON.stringify(command)}, which is no file name`,
          offer.target,
        )
      }
      const choice = { rank: rank(offer, command), name: offer.name }
      const other = chosen.get(command)
      if (other !== undefined && (other.rank - choice.rank || compareText(other.name, choice.name)) <= 0) continue
      chosen.set(command, { ...choice, command: { target: offer.target, file: `${offer.path}/${file}` } })
    }
  }
  return new Map(
    [...chosen].sort(([a], [b]) => compareText(a, b)).map(([command, choice]) => [command, choice.command]),
  )
}

/** The `.bin` entries in a `node_modules` of the checkout. */
export function binLinks(nodeModules: string, commands: ReadonlyMap<string, Command>): readonly PlannedLink[] {
  return [...commands].map(([command, { file }]) => ({
    path: `${nodeModules}/.bin/${command}`,
    target: { place: 'checkout', path: file },
  }))
}

function binOf(npm: NpmLock, target: Target): Readonly<Record<string, string>> {
  if (!isWorkspace(target)) return sortKeys(lookUp(npm, target).pkg.bin ?? {})
  return sortKeys(npm.services[target.slice('link:'.length)]?.bin ?? {})
}
