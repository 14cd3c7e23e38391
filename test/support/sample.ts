import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { expect } from 'vitest'

import { polder, polderDone, temporaryDirectory, type Finished, type Invocation } from './cli.ts'
import { copyStore, writeMonorepo } from './monorepo.ts'
import { startRegistry, type Registry } from './registry.ts'

/** A repository of three services, locked and installed, for tests of what the commands say and do. */
export interface Sample extends Invocation {
  readonly registry: Registry
}

/**
 * `alpha` is locked at two versions and can be unified, `gamma` needs two majors, `native` has an install script,
 * `alpha` and `beta` have commands; the services have scripts that tell what they see.
 */
export async function makeSample(): Promise<Sample> {
  const registry = await startRegistry()
  const main = (value: unknown): string => `module.exports = ${JSON.stringify(value)}\n`
  const command = (says: string): string =>
    `#!/usr/bin/env node\nconsole.log(${JSON.stringify(says)}, ...process.argv.slice(2))\n`
  const alpha = (version: string): ReturnType<Registry['serve']> =>
    registry.serve('alpha', version, {
      bin: 'cli.js',
      files: { 'index.js': main(version), 'cli.js': command(`alpha ${version}`) },
    })
  const gamma = (version: string): ReturnType<Registry['serve']> =>
    registry.serve('gamma', version, { files: { 'index.js': main(version) } })
  const [alpha10, alpha11, gamma1, gamma2] = [alpha('1.0.0'), alpha('1.1.0'), gamma('1.5.0'), gamma('2.5.0')]
  const beta = registry.serve('beta', '2.0.0', {
    dependencies: { alpha: '^1.0.0' },
    files: { 'index.js': 'module.exports = require("alpha")\n' },
  })
  const native = registry.serve('native', '1.0.0', { scripts: { postinstall: 'exit 1' } })
  const cwd = join(temporaryDirectory('sample'), 'repository')
  writeMonorepo(cwd, registry, {
    'services/web': {
      manifest: {
        dependencies: { alpha: '^1.1.0', beta: '^2.0.0', gamma: '^1.0.0' },
        scripts: {
          pretest: 'echo pretest web',
          test: 'echo test web',
          posttest: 'echo posttest web',
          versions: "node -p \"[require('alpha'), require('gamma')].join()\"",
          fail: 'exit 7',
          alpha: 'alpha',
        },
      },
      locked: { alpha: alpha11, beta, gamma: gamma1 },
    },
    'services/api': {
      manifest: {
        dependencies: { alpha: '^1.0.0', gamma: '^2.0.0', native: '1.0.0' },
        scripts: {
          test: 'echo test api',
          broken: 'exit 1',
          versions: "node -p \"[require('alpha'), require('gamma')].join()\"",
        },
      },
      locked: { alpha: alpha10, gamma: gamma2, native },
    },
    'tools/lint': { manifest: { dependencies: { alpha: '1.1.0' } }, locked: { alpha: alpha11 } },
  })
  const home = join(temporaryDirectory('sample'), 'store')
  await polderDone(['lock'], { cwd, home })
  await polderDone(['install'], { cwd, home })
  return { cwd, home, registry }
}

/** Another checkout of the sample: nothing is installed in it. With a store of its own if asked. */
export function checkout(sample: Sample, { ownStore = false }: { readonly ownStore?: boolean } = {}): Invocation {
  const cwd = join(temporaryDirectory('checkout'), 'repository')
  cpSync(sample.cwd, cwd, { recursive: true, filter: (path) => !/\/(node_modules|\.polder)$/.test(path) })
  if (!ownStore) return { cwd, home: sample.home }
  const home = join(temporaryDirectory('store'), 'store')
  copyStore(sample.home, home, ['roots'])
  return { cwd, home }
}

/** `polder LINE`, split at spaces. */
export function run(line: string, where: Invocation): Promise<Finished> {
  return polder(line === '' ? [] : line.split(' '), where)
}

/** What it prints, normalised; it has to exit with 0 and be silent on stderr. */
export async function printed(line: string, where: Invocation): Promise<string> {
  const { code, stdout, stderr } = await run(line, where)
  expect({ line, code, stderr }).toEqual({ line, code: 0, stderr: '' })
  return normalised(stdout, where)
}

/** The document that it prints with `--json`, and nothing else. */
export async function json(line: string, where: Invocation, code = 0): Promise<unknown> {
  const finished = await run(`${line} --json`, where)
  expect({ line, code: finished.code, stderr: finished.stderr }).toEqual({ line, code, stderr: '' })
  return JSON.parse(finished.stdout)
}

/** Replaces text in a file of a checkout. */
export function edit({ cwd }: Invocation, path: string, from: string, to: string): void {
  const before = readFileSync(join(cwd, path), 'utf8')
  if (!before.includes(from)) throw new Error(`${path} does not have ${from}`)
  writeFileSync(join(cwd, path), before.replace(from, to))
}

/** What differs from machine to machine and from run to run, by name. */
export function normalised(text: string, { cwd, home }: Invocation): string {
  return text
    .replaceAll(cwd, '<repository>')
    .replaceAll(home, '<store>')
    .replace(/\b[0-9a-f]{12,64}\b/g, '<id>')
    .replace(/\b\d+(\.\d+)? m?s\b/g, '<time>')
    .replace(/sha512-[\w+/=]+…?/g, '<hash>')
    .replace(/linux-\w+-\w+|darwin-\w+/g, '<platform>')
}
