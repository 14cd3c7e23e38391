// The main job on examples/harbour, as a person would do it: lock, cut the network, install, run, a second checkout.
import { spawnSync } from 'node:child_process'
import { cpSync, globSync, lstatSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A command of the demo failed; its own output says why. */
class StepFailed extends Error {}

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const POLDER = join(ROOT, 'scripts/polder')
const keep = process.argv.includes('--keep')
const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined

const directory = mkdtempSync(join(tmpdir(), 'polder-demo-'))
// CI is left out: what a person sees is shown, wherever this runs.
const { CI: _, ...inherited } = process.env
const env = { ...inherited, POLDER_HOME: join(directory, 'store') }
const first = join(directory, 'harbour')
const second = join(directory, 'harbour-2')
let step = 0

try {
  demo()
} catch (error) {
  if (!(error instanceof StepFailed)) throw error
  console.error(`\n${error.message}`)
  process.exitCode = 1
} finally {
  if (keep) console.log(`\nLeft for you to look at: ${directory} (POLDER_HOME=${env.POLDER_HOME})`)
  else rmSync(directory, { recursive: true, force: true })
}

function demo(): void {
  copyExample(first)
  const lockfiles = globSync(['pnpm-lock.yaml', '*/*/{package-lock.json,yarn.lock}'], { cwd: first }).sort()
  const services = serviceDirectories()
  head('A repository as it is')
  say(`examples/harbour: ${services.length} services with ${lockfiles.length} lockfiles of their own`)
  for (const lockfile of lockfiles) {
    const own = services.filter((service) => service === dirname(lockfile))
    const rest = services.filter((service) => !lockfiles.some((other) => dirname(other) === service))
    say(`  ${lockfile.padEnd(37)}${(own.length === 0 ? rest : own).join(', ')}`)
  }

  head('Lock: gather every lockfile, fetch what they pin, flatten')
  polder(first, [], 'lock')

  head('Cut the network')
  const cut = networkCut()
  say(cut.description)

  head('Install, from the index alone')
  install(cut.prefix)
  polder(first, cut.prefix, 'builds', 'bcrypt')

  head("Run each service's own check in the flattened environment")
  for (const service of services) check(service, cut.prefix)

  head('Why is chalk there twice?')
  polder(first, cut.prefix, 'why', 'chalk')

  head('A second checkout')
  copyExample(second)
  cpSync(join(first, 'polder.lock'), join(second, 'polder.lock'))
  polder(second, cut.prefix, 'install')
  const { links, bytes } = countLinks(second)
  const environments = count(globSync('envs/*', { cwd: env.POLDER_HOME }).length, 'environment')
  say(
    `${links} links and ${kilobytes(bytes)} of its own; the files of ${environments} in the store serve both checkouts`,
  )
  say('and once more, when there is nothing to do:')
  polder(second, cut.prefix, 'install')

  head('Is what is on disk what was locked?')
  polder(second, cut.prefix, 'verify')
  polder(second, cut.prefix, 'status')
  console.log('\nDone.')
}

function head(title: string): void {
  step += 1
  const text = `${step}. ${title}`
  console.log(`\n${colour ? `\x1b[1m${text}\x1b[0m` : text}`)
}

function loud(text: string): string {
  return colour ? `\x1b[1;31m${text}\x1b[0m` : text
}

function say(line: string): void {
  console.log(`   ${line}`)
}

/** Shows the command, its remarks, its output, and how long it took. */
function polder(checkout: string, prefix: readonly string[], ...args: readonly string[]): void {
  const { output, remarks, milliseconds } = run(checkout, prefix, args)
  const text = `$ polder ${args.join(' ')}`
  console.log(`   ${colour ? `\x1b[36m${text}\x1b[0m` : text}   (${milliseconds} ms)`)
  for (const line of `${remarks}${output}`.trimEnd().split('\n')) say(`  ${line.replaceAll(directory, '…')}`)
}

/** The install script that harbour allows runs in a sandbox, or where there is none, as it would with npm: not confined. */
function install(prefix: readonly string[]): void {
  try {
    polder(first, prefix, 'install', '--require-sandbox')
  } catch (error) {
    if (!(error instanceof StepFailed) || !error.message.includes('[SANDBOX_UNAVAILABLE]')) throw error
    const [, ...why] = error.message.trimEnd().split('\n')
    say('$ polder install --require-sandbox')
    for (const line of why) say(`  ${line}`)
    say(loud('NO SANDBOX here. The install script of bcrypt runs WITHOUT ONE, as it would with npm.'))
    polder(first, prefix, 'install', '--no-require-sandbox')
  }
}

interface Checked {
  readonly loaded: Readonly<Record<string, string>>
  readonly addon?: string
  readonly phantom?: Readonly<Record<string, string | null>>
  readonly commands?: Readonly<Record<string, string>>
}

function check(service: string, prefix: readonly string[]): void {
  const { output } = run(first, prefix, ['run', 'check', '--service', service])
  const { loaded, phantom = {}, commands = {}, addon } = JSON.parse(lastLine(output)) as Checked
  const parts = Object.entries(loaded).map(([name, version]) => `${name} ${version}`)
  const found = Object.entries(phantom).map(([name, version]) =>
    version === null ? '' : ` + ${name} ${version}, which it does not declare`,
  )
  const bins = Object.entries(commands).map(([command, owner]) => `; its command "${command}" is that of ${owner}`)
  const native = addon === undefined ? '' : `; its native addon is ${addon}`
  say(`ok  ${service.padEnd(19)} ${parts.join(', ')}${found.join('')}${bins.join('')}${native}`)
}

function run(
  checkout: string,
  prefix: readonly string[],
  args: readonly string[],
): { output: string; remarks: string; milliseconds: number } {
  const [program = POLDER, ...rest] = [...prefix, POLDER, ...args]
  const start = performance.now()
  const { status, stdout, stderr, error } = spawnSync(program, rest, {
    cwd: checkout,
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const milliseconds = Math.round(performance.now() - start)
  if (error !== undefined) throw new StepFailed(`${program} could not be run: ${error.message}`)
  if (status !== 0)
    throw new StepFailed(`polder ${args.join(' ')} failed with exit code ${status}:\n${stdout}${stderr}`)
  return { output: stdout, remarks: stderr, milliseconds }
}

/** A network namespace of its own has no interface but a loopback that is down: there is nothing to connect with. */
function networkCut(): { readonly prefix: readonly string[]; readonly description: string } {
  for (const prefix of [
    ['unshare', '--net'],
    ['unshare', '--map-root-user', '--net'],
  ]) {
    if (spawnSync(prefix[0] ?? '', [...prefix.slice(1), 'true'], { stdio: 'ignore' }).status === 0) {
      return {
        prefix,
        description: `From here on every command runs in a network namespace without a network (${prefix.join(' ')}).`,
      }
    }
  }
  return {
    prefix: [],
    description:
      'NOT CUT: this kernel gives us no network namespace. The commands that follow could use the network; polder does not.',
  }
}

function copyExample(target: string): void {
  const made = new Set(['node_modules', '.polder', 'polder.lock', 'dist'])
  cpSync(join(ROOT, 'examples/harbour'), target, {
    recursive: true,
    filter: (source) => !made.has(source.slice(source.lastIndexOf('/') + 1)),
  })
}

function serviceDirectories(): readonly string[] {
  return globSync('*/*/package.json', { cwd: first }).map(dirname).sort()
}

/** What an installation put into a checkout: links, and the size of its real files. Follows no link. */
function countLinks(checkout: string): { readonly links: number; readonly bytes: number } {
  let links = 0
  let bytes = 0
  const visit = (folder: string, inside: boolean): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) visit(path, inside || entry.name === 'node_modules' || entry.name === '.polder')
      else if (inside && entry.isSymbolicLink()) links += 1
      else if (inside) bytes += lstatSync(path).size
    }
  }
  visit(checkout, false)
  return { links, bytes }
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1000).toFixed(1)} kB`
}
