import type { NpmLock, Target } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { compareText } from '@polder/spec'
import { posix } from 'node:path'

import { binLinks, chooseCommands, type Command, type Offer } from './bins.ts'
import { targetPath, type Placement } from './placement.ts'
import { linkText } from './package-files.ts'
import type { LinkedDirectory, PlannedLink } from './planned.ts'
import { lockInvalid } from './reach.ts'

/** What one `node_modules` of the checkout offers: the flat root's, or a service's own. */
interface Level {
  readonly path: string
  readonly entries: ReadonlyMap<string, Target>
  readonly commands: ReadonlyMap<string, Command>
}

/**
 * Leads to the flat root of the environment. The links to what stands there go through it, so that their text is the
 * same in every checkout and for every environment, and the store's links can be used again.
 */
const ENVIRONMENT_LINK = 'node_modules/.polder/env'

/**
 * The links of the checkout: one for every name of the flat root that does not stand there itself, `.bin`, and for each
 * service what differs from what it finds above.
 * @throws PolderError `LOCK_INVALID`
 */
export function planCheckoutLinks(
  npm: NpmLock,
  placement: Placement,
): { readonly links: readonly LinkedDirectory[]; readonly services: readonly string[] } {
  const links: PlannedLink[] = []
  const nodeModules = { place: 'environment', path: 'node_modules' } as const
  for (const [name, target] of placement.root) {
    const to = targetPath(target, placement.spots)
    const path = `node_modules/${name}`
    if (to?.place === 'environment')
      links.push({ path, target: { place: 'checkout', path: `${ENVIRONMENT_LINK}/${name}` } })
    else if (to !== undefined && to.path !== path) links.push({ path, target: to })
  }
  if (links.some(({ target }) => target.path.startsWith(`${ENVIRONMENT_LINK}/`)))
    links.push({ path: ENVIRONMENT_LINK, target: nodeModules })
  const root: Level = { path: '.', entries: placement.root, commands: rootCommands(npm, placement) }
  links.push(...binLinks('node_modules', root.commands))

  const levels: Level[] = [root]
  // A service may lie inside another; the shorter path is the outer one and comes first.
  for (const path of Object.keys(npm.services).sort(compareText)) {
    const required = requiredBy(npm, path, placement)
    const above = levels.filter((level) => level.path === '.' || path.startsWith(`${level.path}/`)).reverse()
    const entries = new Map([...required].filter(([name, target]) => firstEntry(above, name) !== target))
    if (path === '.') {
      const [conflict] = entries
      if (conflict !== undefined)
        throw lockInvalid(
          `the service at the top uses ${conflict[1]}, but the flat root holds ${root.entries.get(conflict[0]) ?? 'nothing'}`,
          conflict[1],
        )
      continue
    }
    const commands = ownCommands(npm, path, required, entries, above)
    if (entries.size + commands.size === 0) continue
    levels.push({ path, entries, commands })
    for (const [name, target] of entries) {
      const to = targetPath(target, placement.spots)
      if (to !== undefined) links.push({ path: `${path}/node_modules/${name}`, target: to })
    }
    links.push(...binLinks(`${path}/node_modules`, commands))
  }
  return { links: byDirectory(links), services: levels.slice(1).map(({ path }) => path) }
}

/** Sorted. */
function byDirectory(links: readonly PlannedLink[]): readonly LinkedDirectory[] {
  const directories = new Map<string, [name: string, text: string][]>()
  for (const link of links.toSorted((a, b) => compareText(a.path, b.path))) {
    const path = posix.dirname(link.path)
    const inside = directories.get(path) ?? []
    directories.set(path, inside)
    inside.push([posix.basename(link.path), linkText(link, '')])
  }
  return [...directories]
    .sort(([a], [b]) => compareText(a, b))
    .map(([path, inside]) => {
      const to = commonTarget(inside)
      const leads = ([name, text]: readonly [string, string]): boolean => text === `${to}/${name}`
      const names = inside.filter(leads).map(([name]) => name)
      return { path, to, names, others: inside.filter((link) => !leads(link)) }
    })
}

/** The directory that most of the links lead to under their own names; empty if none does. */
function commonTarget(links: readonly (readonly [name: string, text: string])[]): string {
  const counts = new Map<string, number>()
  for (const [name, text] of links) {
    const to = text.endsWith(`/${name}`) ? text.slice(0, -name.length - 1) : ''
    if (to !== '') counts.set(to, (counts.get(to) ?? 0) + 1)
  }
  return [...counts].sort(([a, some], [b, others]) => others - some || compareText(a, b))[0]?.[0] ?? ''
}

/**
 * At the root a command belongs to what a service at the top declares, then to the package that is called like it,
 * then to what any service declares.
 */
function rootCommands(npm: NpmLock, placement: Placement): ReadonlyMap<string, Command> {
  const offers: Offer[] = [...placement.root].map(([name, target]) => ({ name, target, path: `node_modules/${name}` }))
  const top = new Set(requiredBy(npm, '.', placement).values())
  const declared = new Set(Object.keys(npm.services).flatMap((path) => [...requiredBy(npm, path, placement).values()]))
  return chooseCommands(npm, offers, ({ name, target }, command) => {
    if (top.has(target)) return name === command ? 0 : 1
    if (name === command) return 2
    return declared.has(target) ? 3 : 4
  })
}

/** The commands of what a service declares that another package has where the service would look next. */
function ownCommands(
  npm: NpmLock,
  path: string,
  required: ReadonlyMap<string, Target>,
  entries: ReadonlyMap<string, Target>,
  above: readonly Level[],
): ReadonlyMap<string, Command> {
  const offers = [...required].map(([name, target]) => {
    const holder = entries.has(name) ? path : (above.find((level) => level.entries.has(name))?.path ?? '.')
    return { name, target, path: holder === '.' ? `node_modules/${name}` : `${holder}/node_modules/${name}` }
  })
  const commands = chooseCommands(npm, offers, ({ name }, command) => (name === command ? 0 : 1))
  // Some tools look through every level above, others at the root only: both must find the right one.
  const seen = (command: string): readonly (Target | undefined)[] => [
    above.find((level) => level.commands.has(command))?.commands.get(command)?.target,
    above.at(-1)?.commands.get(command)?.target,
  ]
  return new Map([...commands].filter(([command, { target }]) => seen(command).some((other) => other !== target)))
}

/** Install name → what the service uses, on this platform. */
function requiredBy(npm: NpmLock, path: string, { spots }: Placement): ReadonlyMap<string, Target> {
  const required = new Map<string, Target>()
  for (const [name, { use }] of Object.entries(requirementsOf(npm.services[path]))) {
    if (use !== undefined && targetPath(use, spots) !== undefined) required.set(name, use)
  }
  return required
}

function firstEntry(levels: readonly Level[], name: string): Target | undefined {
  return levels.find((level) => level.entries.has(name))?.entries.get(name)
}
