import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { buildRelease } from '../../scripts/release.ts'
import { finish, scrubbedEnvironment, temporaryDirectory, type Finished } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

describe('the released command line', () => {
  let registry: Registry
  let program: string
  let cwd: string
  let home: string

  beforeAll(async () => {
    registry = await startRegistry()
    // Where nothing of this repository is near, and not where it was built.
    const built = join(temporaryDirectory('built'), 'polder')
    await buildRelease(built)
    const elsewhere = join(temporaryDirectory('released'), 'polder')
    cpSync(built, elsewhere, { recursive: true })
    rmSync(built, { recursive: true })
    program = join(elsewhere, 'dist/polder.mjs')
    cwd = join(temporaryDirectory('released'), 'repository')
    home = temporaryDirectory('released-store')
    const lib = registry.serve('lib', '1.0.0', {
      dependencies: { leaf: '^2.0.0' },
      bin: { lib: 'cli.js' },
      files: { 'cli.js': '#!/usr/bin/env node\nconsole.log("lib runs")\n' },
    })
    const leaf = registry.serve('leaf', '2.1.0')
    writeMonorepo(cwd, registry, { api: { manifest: { dependencies: { lib: '^1.0.0' } }, locked: { lib, leaf } } })
  })

  afterAll(() => registry.close())

  const polder = (...args: readonly string[]): Promise<Finished> =>
    finish(process.execPath, [program, ...args], { cwd, env: scrubbedEnvironment({ home }) })

  test('locks, installs, runs, explains and verifies without the sources', async () => {
    expect(await polder('lock')).toMatchObject({ code: 0, stdout: expect.stringContaining('2 → 2 packages') as string })
    expect(await polder('install')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('2 packages installed') as string,
    })
    expect(await polder('install')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('Already up to date') as string,
    })
    expect(await polder('exec', '--', 'lib')).toEqual({ code: 0, stdout: 'lib runs\n', stderr: '' })
    expect(await polder('why', 'leaf')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('lib@1.0.0 needs ^2.0.0') as string,
    })
    expect(await polder('verify')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('2 packages verified') as string,
    })
  })

  test('knows its version and tells its errors like the sources', async () => {
    expect((await polder('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    const { code, stderr } = await polder('instal')
    expect(code).toBe(2)
    expect(stderr).toContain('[USAGE]')
  })
})
