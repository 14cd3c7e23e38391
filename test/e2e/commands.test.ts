import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { polderDone } from '../support/cli.ts'
import { checkout, edit, json, makeSample, normalised, printed, run, type Sample } from '../support/sample.ts'

let sample: Sample

beforeAll(async () => {
  sample = await makeSample()
})
afterAll(() => sample.registry.close())

describe('why', () => {
  test('shows who needs each version, over which path, and why it is kept', async () => {
    expect(await printed('why gamma', sample)).toMatchInlineSnapshot(`
      "gamma@1.5.0  (a variant; not at the flat root)
        services/web needs ^1.0.0
      gamma@2.5.0
        services/api needs ^2.0.0

      gamma is kept at 2 versions:
        1.5.0 is the only one kept that services/web accepts: ^1.0.0
        2.5.0 is the only one kept that services/api accepts: ^2.0.0
      No locked version satisfies any two of these.
      "
    `)
    expect(await printed('why alpha', sample)).toMatchInlineSnapshot(`
      "alpha@1.1.0
        services/api needs ^1.0.0
        services/web needs ^1.1.0
        tools/lint needs 1.1.0
        beta@2.0.0 needs ^1.0.0   services/web > beta@2.0.0

      One version satisfies everyone who needs alpha.
      "
    `)
    expect(await printed('why alpha --service services/api', sample)).toMatchInlineSnapshot(`
      "alpha@1.1.0
        services/api needs ^1.0.0

      One version satisfies everyone who needs alpha.
      "
    `)
    expect(await json('why beta', sample)).toMatchInlineSnapshot(`
      {
        "name": "beta",
        "root": "beta@2.0.0",
        "split": null,
        "versions": {
          "beta@2.0.0": [
            {
              "owner": "services/web",
              "path": [
                "services/web",
              ],
              "range": "^2.0.0",
            },
          ],
        },
      }
    `)
  })

  test('suggests the nearest name', async () => {
    expect(await run('why gama', sample)).toEqual({
      code: 2,
      stdout: '',
      stderr: 'polder: gama is not in the environment [PACKAGE_UNKNOWN]\n  hint: did you mean gamma?\n',
    })
    expect((await run('why gamma --service web2', sample)).stderr).toContain('[SERVICE_UNKNOWN]\n  hint: ')
  })
})

test.each(['constructor', '__proto__', 'toString'])(
  'a package that could be called %s is not there either',
  async (name) => {
    for (const line of [`why ${name}`, `explain ${name}`, `dedupe-check --only ${name}`]) {
      expect(await run(line, sample)).toMatchObject({
        code: 2,
        stdout: '',
        stderr: expect.stringContaining(`${name} is not in the environment`) as string,
      })
    }
  },
)

describe('explain and dedupe-check', () => {
  test('explain gives the certificate of a split', async () => {
    expect(await printed('explain', sample)).toMatchInlineSnapshot(`
      "gamma is kept at 2 versions
        1.5.0  needed by services/web (^1.0.0)
        2.5.0  needed by services/api (^2.0.0)
        No locked version satisfies any two of these.
        bump gamma in services/web to ^2.0.0, and 1.5.0 goes
        bump gamma in services/api to ^1.0.0, and 2.5.0 goes
      "
    `)
    expect(await printed('explain alpha', sample)).toBe('alpha is there once: alpha@1.1.0\n')
    expect(await json('explain gamma', sample)).toMatchObject({ splits: [{ name: 'gamma', proven: true }] })
  })

  test('dedupe-check fails with it', async () => {
    const failed = await run('dedupe-check', sample)
    expect(failed.code).toBe(1)
    expect(failed.stdout).toBe(await printed('explain', sample))
    expect(failed.stderr).toContain('gamma: more than one version [DUPLICATES_FOUND]')
    expect(await printed('dedupe-check --only alpha,beta', sample)).toBe('2 names checked: one version each\n')
    expect(await json('dedupe-check --only gamma', sample, 1)).toMatchObject({ duplicates: [{ name: 'gamma' }] })
  })
})

describe('status', () => {
  test('is five lines', async () => {
    expect(await printed('status', sample)).toMatchInlineSnapshot(`
      "repository   <repository>, 3 services
      lock         up to date
      environment  5 packages, 1 name split, <id>
      installed    current, linked, 1 package not built
      store        <store>, 1 environment for 1 checkout
      "
    `)
    expect(await json('status', sample)).toEqual({
      root: sample.cwd,
      services: ['services/api', 'services/web', 'tools/lint'],
      lock: { found: true, upToDate: true, changed: [] },
      environment: { id: expect.any(String) as string, present: true },
      installed: { layout: 'linked', current: true },
      store: { home: sample.home, environments: expect.any(Number) as number, checkouts: expect.any(Number) as number },
    })
  })

  test('tells of links into another store, and of nothing where nothing is locked', async () => {
    const { home } = checkout(sample, { ownStore: true })
    const elsewhere = await printed('status', { ...sample, home })
    expect(elsewhere).toContain(`installed    links into another store, ${sample.home}: run \`polder install\``)
    const unlocked = checkout(sample)
    rmSync(join(unlocked.cwd, 'polder.lock'))
    expect(await printed('status', unlocked)).toMatchInlineSnapshot(`
      "repository   <repository>
      lock         missing: run \`polder lock\`
      environment  none, as nothing is locked
      installed    nothing: run \`polder install\`
      store        <store>, 1 environment for 1 checkout
      "
    `)
  })

  test('tells what to do about a checkout in which nothing is installed and whose lock is old', async () => {
    const own = checkout(sample, { ownStore: true })
    edit(own, 'tools/lint/package.json', '1.0.0', '1.0.1')
    expect(await printed('status', own)).toMatchInlineSnapshot(`
      "repository   <repository>, 3 services
      lock         out of date (tools/lint/package.json): run \`polder lock\`
      environment  5 packages, 1 name split
      installed    nothing: run \`polder install\`
      store        <store>, 1 environment for 0 checkouts
      "
    `)
    expect((await printed('status', own)).trimEnd().split('\n')).toHaveLength(5)
    expect(await json('status', own)).toMatchObject({
      lock: { found: true, upToDate: false, changed: ['tools/lint/package.json'] },
      installed: { layout: null, current: false },
    })
  })
})

describe('diff', () => {
  test('tells what changes for whom', async () => {
    const own = checkout(sample)
    writeFileSync(
      join(own.cwd, 'polder.yaml'),
      `${readFileSync(join(own.cwd, 'polder.yaml'), 'utf8')}\nexclude: [services/api]\n`,
    )
    await polderDone(['lock', '--offline'], own)
    const old = join(sample.cwd, 'polder.lock')
    expect(await printed(`diff ${old} polder.lock`, own)).toMatchInlineSnapshot(`
      "- gamma 2.5.0
      - native 1.0.0
        services/api: alpha 1.1.0 → nothing
        services/api: gamma 2.5.0 → nothing
        services/api: native 1.0.0 → nothing
        gamma is no longer split
      "
    `)
    expect(await json(`diff ${old} polder.lock`, own)).toMatchInlineSnapshot(`
      {
        "additions": {
          "added": [],
          "removed": [],
        },
        "integrity": [],
        "keys": [],
        "packages": [
          {
            "added": [],
            "name": "gamma",
            "removed": [
              "2.5.0",
            ],
          },
          {
            "added": [],
            "name": "native",
            "removed": [
              "1.0.0",
            ],
          },
        ],
        "services": [
          {
            "after": null,
            "before": "alpha@1.1.0",
            "name": "alpha",
            "service": "services/api",
          },
          {
            "after": null,
            "before": "gamma@2.5.0",
            "name": "gamma",
            "service": "services/api",
          },
          {
            "after": null,
            "before": "native@1.0.0",
            "name": "native",
            "service": "services/api",
          },
        ],
        "splits": {
          "added": [],
          "removed": [
            "gamma",
          ],
        },
      }
    `)
    expect(await printed(`diff ${old} ${old}`, sample)).toBe('Both locks install the same\n')
    expect(await run('diff nothing polder.lock', sample)).toMatchObject({
      code: 1,
      stderr: 'polder: there is no lock at nothing [LOCK_NOT_FOUND]\n  hint: give the paths of two polder.lock files\n',
    })
  })
})

describe('export', () => {
  test('writes the lock for pnpm, to stdout or beside a workspace file', async () => {
    const own = checkout(sample)
    const text = await printed('export pnpm-lock', own)
    expect(text).toMatch(/^lockfileVersion: '?9\.0'?\n/)
    const { written } = (await json('export pnpm-lock --output .', own)) as { written: string[] }
    expect(written).toEqual([join(own.cwd, 'pnpm-lock.yaml'), join(own.cwd, 'pnpm-workspace.yaml')])
    expect(normalised(readFileSync(join(own.cwd, 'pnpm-lock.yaml'), 'utf8'), own)).toBe(text)
  })
})
