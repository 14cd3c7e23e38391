#!/usr/bin/env node
// @ts-check
// Plain JavaScript on purpose: stripping types costs as much time again as Node's own start. A second `polder install`
// is decided here, from `.polder/state.json` and one `stat` a file, before anything else is loaded.
import { readFileSync, statSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

const started = performance.now()
const [command, ...flags] = process.argv.slice(2)
const environment = command === 'install' ? upToDate(flags) : undefined
if (environment === undefined) {
  // What was compiled (and stripped of its types) once is not compiled again. In the store, where nobody else writes.
  enableCompileCache(join(storeHome(), 'compile-cache'))
  const { main } = await import('../src/main.ts')
  process.exitCode = await main(process.argv.slice(2))
} else if (flags.includes('--json')) {
  process.stdout.write(`${JSON.stringify({ upToDate: true, environment })}\n`)
} else if (!flags.includes('--quiet') && !flags.includes('-q')) {
  process.stdout.write(`Already up to date (${Math.round(performance.now() - started)} ms)\n`)
}

/**
 * The environment's id if this checkout is known to be as the last install left it; undefined if that takes a look.
 * @param {readonly string[]} flags
 * @returns {string | undefined}
 */
function upToDate(flags) {
  const asked = askedLayout(flags)
  if (asked === null) return undefined
  try {
    const root = findRoot(process.cwd())
    const state = JSON.parse(readFileSync(join(root, '.polder', 'state.json'), 'utf8'))
    if (
      state.format !== 1 ||
      state.storeHome !== storeHome() ||
      state.platform !== `${process.platform}-${process.arch}` ||
      (asked === undefined ? state.layoutAsked === true : state.layout !== asked)
    )
      return undefined
    // An installation that was cut short leaves a state without inputs.
    if (state.inputs['polder.lock'] === undefined) return undefined
    for (const [path, known] of Object.entries(state.inputs)) {
      const { mtimeMs, size } = statSync(join(root, path))
      if (mtimeMs !== known.mtimeMs || size !== known.size) return undefined
    }
    statSync(join(root, 'node_modules', '.polder.json'))
    for (const service of state.services) statSync(join(root, service, 'node_modules', '.polder.json'))
    if (state.environmentPath !== null) statSync(state.environmentPath)
    return state.environment
  } catch {
    // Whatever is missing or malformed is found again, and told properly, by the whole command.
    return undefined
  }
}

/**
 * The layout that the flags ask for, if any; null if there is a flag that makes this no plain installation.
 * @param {readonly string[]} flags
 * @returns {string | undefined | null}
 */
function askedLayout(flags) {
  const rest = flags.filter((flag) => flag !== '--json' && flag !== '--quiet' && flag !== '-q')
  if (rest.length === 0) return undefined
  const [flag = '', value] = rest
  if (rest.length === 1 && flag.startsWith('--layout=')) return flag.slice('--layout='.length)
  return rest.length === 2 && flag === '--layout' ? value : null
}

/**
 * @param {string} directory
 * @returns {string}
 */
function findRoot(directory) {
  for (;;) {
    if (statSync(join(directory, 'polder.yaml'), { throwIfNoEntry: false }) !== undefined) return directory
    const parent = dirname(directory)
    if (parent === directory) throw new Error('no polder.yaml')
    directory = parent
  }
}

/** As `storeHome` of the store package, which would have to be loaded. */
function storeHome() {
  const { POLDER_HOME, XDG_DATA_HOME } = process.env
  return POLDER_HOME || join(XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'polder')
}
