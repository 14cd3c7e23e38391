import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline/promises'

import type { Lock } from '@polder/lock'
import { compareText, type PackageId, PolderError, splitPackageId } from '@polder/spec'
import { atomicWrite, openStore, type Store, storeHome } from '@polder/store'
import { isMap, parseDocument } from 'yaml'

import { openCheckout } from '../checkout.ts'
import { installScripts } from '../install-scripts.ts'
import { count, type Output } from '../output.ts'
import { waitingWorkspaces } from '../waiting-workspaces.ts'

const CONFIG_FILE = 'polder.yaml'

interface Pending {
  /** Of a package; the path of a workspace package. */
  readonly name: string
  /** Its own scripts, in the checkout. */
  readonly workspace?: true
  readonly versions: readonly string[]
  /** `postinstall: node install.js`, of all versions. */
  readonly scripts: readonly string[]
  /** The range that would be allowed: the majors that are locked. */
  readonly range: string
}

/**
 * `polder approve`: shows the install scripts of packages that nobody allowed yet, and writes those that are approved
 * into `builds.allow` of polder.yaml, whose comments and order stay.
 * @throws PolderError `USAGE` for a name that has no scripts to approve, or without `--yes` where nobody can be asked
 */
export async function approve(
  cwd: string,
  output: Output,
  names: readonly string[],
  { yes }: { readonly yes: boolean },
): Promise<number> {
  const { root, lock } = openCheckout(cwd)
  const pending = [
    ...(await pendingPackages(openStore(storeHome(process.env)), root, lock)),
    ...pendingWorkspaces(root, lock),
  ]
  const unknown = names.find((name) => !pending.some((each) => each.name === name))
  if (unknown !== undefined) {
    throw new PolderError('USAGE', `${unknown} has no install scripts that wait to be allowed`, {
      spec: unknown,
      hint: pending.length === 0 ? 'nothing does' : `these do: ${pending.map(({ name }) => name).join(', ')}`,
    })
  }
  const asked = names.length === 0 ? pending : pending.filter(({ name }) => names.includes(name))
  const approved: Pending[] = []
  const terminal = yes || asked.length === 0 ? undefined : askOnTerminal(output)
  try {
    for (const each of asked) {
      output.line(
        each.workspace === true ? output.bold(each.name) : `${output.bold(each.name)} ${each.versions.join(', ')}`,
      )
      for (const script of each.scripts) output.line(`  ${script}`)
      const what = each.workspace === true ? `${each.name} to run its own scripts` : `${each.name}@${each.range}`
      if (terminal === undefined || (await terminal.confirm(`  allow ${what}?`))) approved.push(each)
    }
  } finally {
    terminal?.close()
  }
  if (approved.length > 0) allow(join(root, CONFIG_FILE), approved)
  const rest = asked.length - approved.length
  output.line(
    asked.length === 0
      ? 'no package waits for its install scripts to be allowed'
      : `${count(approved.length, 'package')} allowed${rest > 0 ? `, ${rest} not` : ''}${approved.length > 0 ? '; run `polder lock`, then `polder install`' : ''}`,
  )
  output.result({
    allowed: approved.map(({ name, range, workspace }) => (workspace === true ? { path: name } : { name, range })),
    notAllowed: asked.filter((each) => !approved.includes(each)).map(({ name }) => name),
  })
  return 0
}

async function pendingPackages(store: Store, root: string, lock: Lock): Promise<readonly Pending[]> {
  const allowed = lock.policy.builds?.allow ?? {}
  const byName = new Map<string, { versions: string[]; scripts: Set<string> }>()
  for (const [id, pkg] of Object.entries(lock.npm.packages)) {
    const { name, reference } = splitPackageId(id)
    if (pkg.needsBuild !== true || Object.hasOwn(allowed, name)) continue
    const entry = byName.get(name) ?? { versions: [], scripts: new Set() }
    entry.versions.push(pkg.version ?? reference)
    const { scripts } = await installScripts(store, root, pkg, id as PackageId)
    for (const { event, command } of scripts) entry.scripts.add(`${event}: ${command}`)
    byName.set(name, entry)
  }
  return [...byName]
    .map(([name, { versions, scripts }]) => ({ name, versions, scripts: [...scripts], range: rangeOf(versions) }))
    .sort((a, b) => compareText(a.name, b.name))
}

function pendingWorkspaces(root: string, { npm, policy }: Lock): readonly Pending[] {
  const allowed = Object.keys(policy.builds?.workspaces ?? {})
  return waitingWorkspaces(root, Object.keys(npm.services), allowed).map(({ path, scripts }) => ({
    name: path,
    workspace: true,
    versions: [],
    scripts,
    range: '*',
  }))
}

/** `^1.2.3 || ^2.0.0`: an update within a major is not asked about again. */
function rangeOf(versions: readonly string[]): string {
  const plain = versions.filter((version) => /^\d+\.\d+\.\d+/.test(version))
  return plain.length === versions.length ? plain.map((version) => `^${version}`).join(' || ') : '*'
}

function askOnTerminal(output: Output): { confirm(question: string): Promise<boolean>; close(): void } {
  if (output.json || !process.stdin.isTTY) {
    throw new PolderError('USAGE', 'nobody can be asked here', {
      hint: 'name the packages, and say --yes: polder approve NAME… --yes',
    })
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  return {
    confirm: async (question) => /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim()),
    close: () => terminal.close(),
  }
}

function allow(path: string, approved: readonly Pending[]): void {
  const text = readFileSync(path, 'utf8')
  // An empty file is no mapping yet.
  const document = parseDocument(text.trim() === '' ? '{}' : text)
  if (isMap(document.contents)) document.contents.flow = false
  for (const { name, range, workspace } of approved) {
    if (workspace === true) document.setIn(['builds', 'workspaces', name], document.createNode([]))
    else document.setIn(['builds', 'allow', name], range)
  }
  atomicWrite(path, document.toString({ lineWidth: 0 }))
}
