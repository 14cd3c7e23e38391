import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { rolldown, type OutputChunk, type OutputOptions, type Plugin } from 'rolldown'

import { thirdPartyNotices } from './notices.ts'

const PACKAGES = fileURLToPath(new URL('../packages/', import.meta.url))
const CLI = join(PACKAGES, 'cli')

/** In the release: what it includes of others. */
const NOTICES = 'THIRD_PARTY_NOTICES.txt'

/** What a further checkout starts with. */
const INSTALL = join(CLI, 'src/install-entry.ts')

/**
 * Bundles the CLI with everything it needs: a package without dependencies, which starts in half the time that the
 * sources take. Nothing else of this repository has to be there to run it.
 * @returns the file to start
 */
export async function buildRelease(directory: string): Promise<string> {
  const bundle = await rolldown({
    // The process of a sandbox and the threads that read archives are started by their files.
    input: {
      polder: join(CLI, 'bin/polder.mjs'),
      'cell-process': join(PACKAGES, 'build/src/sandbox/cell-process.ts'),
      'archive-thread': join(PACKAGES, 'store/src/archives/archive-thread.ts'),
    },
    platform: 'node',
    logLevel: 'warn',
    preserveEntrySignatures: false,
    plugins: [builtinsWithoutWrapping, versionWithoutReading],
    // Importing a module of ours does nothing but define what it exports.
    treeshake: { moduleSideEffects: (id) => (id.includes('/node_modules/') ? undefined : false) },
    // CommonJS modules know their own place, ES modules by another name.
    transform: { define: { __filename: 'import.meta.filename', __dirname: 'import.meta.dirname' } },
  })
  try {
    const dist = join(directory, 'dist')
    const output: OutputOptions = {
      dir: dist,
      format: 'esm',
      entryFileNames: '[name].mjs',
      chunkFileNames: '[name]-[hash].mjs',
      // They are half of it, and one letter that is not Latin doubles what a file takes in memory.
      comments: { legal: true, annotation: false, jsdoc: false },
    }
    const { output: chunks } = await bundle.generate(output)
    const loaded = loadedBy(
      INSTALL,
      chunks.filter((chunk) => chunk.type === 'chunk'),
    )
    const { output: written } = await bundle.write({
      ...output,
      codeSplitting: {
        groups: [{ name: 'install', test: (id) => loaded.has(id) }],
        includeDependenciesRecursively: false,
      },
    })
    const { name, version, description, license, engines } = manifest()
    const released = {
      name,
      version,
      description,
      license,
      type: 'module',
      bin: { polder: './dist/polder.mjs' },
      engines,
    }
    mkdirSync(directory, { recursive: true })
    writeFileSync(join(directory, 'package.json'), `${JSON.stringify(released, undefined, 2)}\n`)
    copyFileSync(fileURLToPath(new URL('../LICENSE', import.meta.url)), join(directory, 'LICENSE'))
    copyFileSync(join(CLI, 'polder.schema.json'), join(directory, 'polder.schema.json'))
    const modules = written.flatMap((chunk) => (chunk.type === 'chunk' ? chunk.moduleIds : []))
    writeFileSync(join(directory, NOTICES), thirdPartyNotices(modules))
    return join(dist, 'polder.mjs')
  } finally {
    await bundle.close()
  }
}

function manifest(): Readonly<Record<string, unknown>> {
  return JSON.parse(readFileSync(join(CLI, 'package.json'), 'utf8')) as Record<string, unknown>
}

/** The modules in the chunks that are loaded with this module, all of which shall be in one file. */
function loadedBy(module: string, chunks: readonly OutputChunk[]): ReadonlySet<string> {
  const byName = new Map(chunks.map((chunk) => [chunk.fileName, chunk]))
  const found = new Set<OutputChunk>()
  const visit = (chunk: OutputChunk | undefined): void => {
    if (chunk === undefined || found.has(chunk)) return
    found.add(chunk)
    for (const name of chunk.imports) visit(byName.get(name))
  }
  visit(chunks.find(({ moduleIds }) => moduleIds.includes(module)))
  return new Set([...found].flatMap(({ moduleIds }) => moduleIds))
}

/** Modules that take milliseconds to load, and that a further checkout has no use for. */
const LAZY = new Set(['node:child_process', 'node:crypto', 'node:fs/promises', 'node:os', 'node:timers/promises'])

/**
 * Our own imports of Node's modules become property reads: as an ES module, each of them would be wrapped export by
 * export, which takes as long as all that a no-op `install` does. Functions of the modules above are read when called.
 */
const builtinsWithoutWrapping: Plugin = {
  name: 'builtins-without-wrapping',
  transform: (code, id) => {
    if (!id.startsWith(PACKAGES)) return null
    return code.replaceAll(/^import \{([^}]+)\} from '(node:[\w/]+)'$/gm, (_, list: string, source: string) => {
      const module = `process.getBuiltinModule('${source}')`
      const names = list
        .split(',')
        .map((name) => name.trim())
        .filter((name) => name !== '' && !name.startsWith('type '))
        .map((name) => name.split(' as '))
      const isLazy = ([theirs = '']: readonly string[]): boolean => LAZY.has(source) && isPlainFunction(source, theirs)
      const read = names.filter((name) => !isLazy(name)).map((name) => name.join(': '))
      return [
        ...(read.length > 0 ? [`const { ${read.join(', ')} } = ${module}`] : []),
        ...names
          .filter(isLazy)
          .map(([theirs = '', ours = theirs]) => `const ${ours} = (...rest) => ${module}.${theirs}(...rest)`),
      ].join('; ')
    })
  },
}

/** The version in the manifest, which then need not be read. */
const versionWithoutReading: Plugin = {
  name: 'version-without-reading',
  load: (id) => {
    if (id !== join(CLI, 'src/version.ts')) return null
    return `export const polderVersion = () => ${JSON.stringify(manifest()['version'])}`
  },
}

/** Not a class, and no more than a function: `promisify` knows some of Node's by a property of theirs. */
function isPlainFunction(module: string, name: string): boolean {
  const value = (process.getBuiltinModule(module) as Readonly<Record<string, unknown>>)[name]
  return typeof value === 'function' && /^[a-z]/.test(name) && !(promisify.custom in value)
}
