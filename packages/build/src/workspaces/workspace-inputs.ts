import { hash } from 'node:crypto'
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { below, directoriesAbove, FileReader, isWithin, type SeenFile, type SeenFiles, walk } from './checkout-files.ts'
import type { PlannedWorkspace } from './planned-workspace.ts'
import type { BuildScript } from '../lifecycle/planned-build.ts'

/** A checkout whose environment is in place. */
export interface PreparedCheckout {
  /** Absolute. */
  readonly root: string
  /** Everything that can be loaded in it. */
  readonly environment: string
  /** Absolute; null where all of it is in the checkout. */
  readonly environmentPath: string | null
  /** The paths of all workspace packages and services. */
  readonly packages: readonly string[]
}

/** Ours, and no business of anybody's scripts. */
const OWN_FILES = ['polder.lock', 'polder.yaml', 'polder.pins.yaml']

/** The files that stand beside the directories above a package: settings that tools look for there. */
export function filesAbove(root: string, path: string): readonly string[] {
  return directoriesAbove(path).flatMap((directory) =>
    readdirSync(join(root, directory), { withFileTypes: true })
      .filter((entry) => entry.isFile() && !(directory === '.' && OWN_FILES.includes(entry.name)))
      .map((entry) => below(directory, entry.name)),
  )
}

/** What is below a package and not its own: packages inside of it. */
export function isForeign(path: string, packages: readonly string[]): (candidate: string) => boolean {
  const inside = new Set(packages.filter((other) => other !== path && isWithin(other, path)))
  return (candidate) => inside.has(candidate) || (path === '.' && OWN_FILES.includes(candidate))
}

/** Directories and files that a package sees besides its own. */
export function visibleElsewhere(
  { root, packages }: PreparedCheckout,
  { path, links, reads }: PlannedWorkspace,
): readonly string[] {
  return [...new Set([...links, ...reads])].filter(
    (other) =>
      !isWithin(path, other) &&
      (packages.includes(other) || !isWithin(other, path)) &&
      lstatSync(join(root, other), { throwIfNoEntry: false }) !== undefined,
  )
}

/**
 * Everything that a package's scripts can see in the checkout, but for what they made themselves: nothing else is there
 * while they run, so that what they make follows from it.
 * @param outputs paths relative to the package
 * @param known from the last time
 */
export function inputsOf(
  checkout: PreparedCheckout,
  workspace: PlannedWorkspace,
  outputs: ReadonlySet<string>,
  known: ReadonlyMap<string, SeenFile>,
): SeenFiles {
  const { root, packages } = checkout
  const { path } = workspace
  const made = new Set([...outputs].map((output) => below(path, output)))
  const own = [...walk(root, path, isForeign(path, packages))].filter((file) => !made.has(file))
  const elsewhere = visibleElsewhere(checkout, workspace).flatMap((other) => {
    const isDirectory = lstatSync(join(root, other)).isDirectory()
    return isDirectory ? [...walk(root, other, isForeign(other, packages))] : [other]
  })
  const above = [...directoriesAbove(path), ...filesAbove(root, path)]
  return new FileReader(root, known).see(new Set([...own, ...elsewhere, ...above]))
}

/** Another number where scripts of workspace packages run in another way. */
const FORMAT = 1

/** What the outputs follow from; the same for as long as nothing of it changes. */
export function keyOf(
  { environment }: PreparedCheckout,
  { path, env }: PlannedWorkspace,
  scripts: readonly BuildScript[],
  toolchain: readonly string[],
  inputs: SeenFiles,
): string {
  const files = [...inputs.files].map(([file, seen]) => [file, seen.hash])
  const commands = scripts.map(({ event, command }) => [event, command])
  return hash('sha256', JSON.stringify([FORMAT, path, commands, toolchain, env, environment, files]), 'hex')
}
