#!/usr/bin/env node
// @ts-check
// Plain JavaScript on purpose: stripping types costs as much time again as Node's own start. A second `polder install`
// is decided here, from `.polder/state.json` and one `stat` a file, before anything else is loaded.
import { lstatSync, readFileSync, statSync, writeSync } from 'node:fs'
import { dirname, isAbsolute, join, resolve } from 'node:path'

const started = process.hrtime.bigint()
const [command, ...words] = process.argv.slice(2)
const plain = command === 'install' ? plainInstall(words) : undefined
const environment = plain === undefined ? undefined : upToDate(plain)
if (environment !== undefined && plain !== undefined) {
  const milliseconds = Math.round(Number(process.hrtime.bigint() - started) / 1e6)
  if (plain.json) print(`${JSON.stringify({ upToDate: true, environment })}\n`)
  else if (!plain.quiet) print(`Already up to date (${milliseconds} ms)\n`)
} else if (isTooOld()) {
  process.stderr.write(`polder: this is Node ${process.versions.node}, and polder needs 22.19 or newer\n`)
  process.exitCode = 1
} else {
  // What was compiled (and stripped of its types) once is not compiled again. In the store, where nobody else writes.
  process.getBuiltinModule('node:module').enableCompileCache(join(storeHome(), 'compile-cache'))
  if (plain !== undefined) {
    const { installDirectly } = await import('../src/install-entry.ts')
    // Without this, Node would take its heap down piece by piece.
    process.exit(await installDirectly(plain))
  } else {
    const { main } = await import('../src/main.ts')
    process.exitCode = await main(process.argv.slice(2))
  }
}

/** As `engines` of the manifest says. */
function isTooOld() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major < 22 || (major === 22 && minor < 19)
}

/**
 * @typedef {{ json: boolean, quiet: boolean, layout?: 'linked' | 'self-contained' }} InstallFlags
 */

/**
 * What the words behind `install` ask for; undefined for anything that the command line parser should look at.
 * @param {readonly string[]} words
 * @returns {InstallFlags | undefined}
 */
function plainInstall(words) {
  /** @type {InstallFlags} */
  const flags = { json: false, quiet: false }
  for (let index = 0; index < words.length; index++) {
    const word = words[index]
    if (word === '--json') flags.json = true
    else if (word === '--quiet' || word === '-q') flags.quiet = true
    else if (word === '--layout' && isLayout(words[index + 1])) flags.layout = words[++index]
    else return undefined
  }
  return flags
}

/**
 * @param {unknown} word
 * @returns {word is 'linked' | 'self-contained'}
 */
function isLayout(word) {
  return word === 'linked' || word === 'self-contained'
}

/**
 * The environment's id if this checkout is known to be as the last install left it; undefined if that takes a look.
 * @param {InstallFlags} asked
 * @returns {string | undefined}
 */
function upToDate(asked) {
  try {
    const root = findRoot(process.cwd())
    const state = JSON.parse(readFileSync(join(root, '.polder', 'state.json'), 'utf8'))
    if (
      state.format !== 1 ||
      state.storeHome !== storeHome() ||
      state.platform !== `${process.platform}-${process.arch}-${process.version}` ||
      (asked.layout === undefined ? state.layoutAsked === true : state.layout !== asked.layout) ||
      // What was built without a sandbox is not enough where one is required.
      (state.unenforced === true && (process.env['CI'] ?? '') !== '')
    )
      return undefined
    // An installation that was cut short leaves a state without inputs.
    if (state.inputs['polder.lock'] === undefined) return undefined
    for (const files of [state.inputs, state.watched ?? {}])
      for (const [path, known] of Object.entries(files)) {
        const { mtimeMs, size } = (files === state.inputs ? statSync : lstatSync)(join(root, path))
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
 * Not through Node's streams, which take a tenth of all the time to set up, unless it has to wait.
 * @param {string} text
 */
function print(text) {
  try {
    writeSync(1, text)
    process.exit()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EPIPE') return
    if (code === 'EAGAIN') {
      process.stdout.write(text)
      return
    }
    process.stderr.write(`polder: what it says cannot be written: ${error instanceof Error ? error.message : ''}\n`)
    process.exitCode = 1
  }
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
  if (POLDER_HOME) return resolve(POLDER_HOME)
  if (XDG_DATA_HOME && isAbsolute(XDG_DATA_HOME)) return join(XDG_DATA_HOME, 'polder')
  return join(process.env['HOME'] || process.getBuiltinModule('node:os').homedir(), '.local', 'share', 'polder')
}
