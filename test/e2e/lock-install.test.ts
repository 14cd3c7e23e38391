import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { polderDone, temporaryDirectory } from '../support/cli.ts'
import { checkout, edit, json, makeSample, printed, run, type Sample } from '../support/sample.ts'

let sample: Sample

beforeAll(async () => {
  sample = await makeSample()
})
afterAll(() => sample.registry.close())

describe('lock', () => {
  test('says what it unified and what it had to keep apart', async () => {
    const own = checkout(sample, { ownStore: true })
    writeFileSync(join(own.cwd, 'polder.lock'), '')
    expect(await printed('lock', own)).toMatchInlineSnapshot(`
      "polder.lock written in <time>
        3 services, 4 names
        6 → 5 packages (proven to be the fewest)
        1 requirement of services moved to a version that others share
          services/api: alpha 1.0.0 → 1.1.0
        1 name kept at several versions
          gamma
            1.5.0      needed by services/web (^1.0.0)
            2.5.0      needed by services/api (^2.0.0)
      "
    `)
    expect(await printed('lock', own)).toMatchInlineSnapshot(`
      "polder.lock unchanged in <time>
        3 services, 4 names
        6 → 5 packages (proven to be the fewest)
        1 requirement of services moved to a version that others share
          services/api: alpha 1.0.0 → 1.1.0
        1 name kept at several versions
          gamma
            1.5.0      needed by services/web (^1.0.0)
            2.5.0      needed by services/api (^2.0.0)
      "
    `)
    expect(readFileSync(join(own.cwd, 'polder.lock'), 'utf8')).toBe(
      readFileSync(join(sample.cwd, 'polder.lock'), 'utf8'),
    )
  })

  test('keeps the plan of what it wrote: the one that an installation makes of the text', async () => {
    const own = checkout(sample, { ownStore: true })
    const plans = join(own.home, 'plans')
    const kept = (): string[] => readdirSync(plans).map((name) => `${name} ${readFileSync(join(plans, name), 'utf8')}`)
    for (const derived of ['plans', 'known']) rmSync(join(own.home, derived), { recursive: true, force: true })
    rmSync(join(own.cwd, 'polder.lock'))
    await polderDone(['lock'], own)
    const planned = kept()
    expect(planned).toHaveLength(1)
    rmSync(plans, { recursive: true })
    await polderDone(['install'], own)
    expect(kept()).toEqual(planned)
  })

  test('gives its whole report as a document', async () => {
    expect(await json('lock', checkout(sample))).toMatchInlineSnapshot(`
      {
        "after": 5,
        "before": 6,
        "bytes": 0,
        "changed": false,
        "diff": null,
        "fetched": 0,
        "firstHand": {
          "all": 1,
          "production": 1,
        },
        "lowerBound": 5,
        "moved": [
          {
            "from": "alpha@1.0.0",
            "name": "alpha",
            "service": "services/api",
            "to": "alpha@1.1.0",
          },
        ],
        "names": 4,
        "optimal": true,
        "otherPolicies": {},
        "services": 3,
        "sharedPatches": [],
        "splits": {
          "gamma": {
            "proven": true,
            "versions": {
              "1.5.0": {
                "owner": "services/web",
                "owners": 1,
                "range": "^1.0.0",
              },
              "2.5.0": {
                "owner": "services/api",
                "owners": 1,
                "range": "^2.0.0",
              },
            },
          },
        },
        "unmetPeers": [],
      }
    `)
  })

  test('--check is content with the inputs where the index is empty, and says so', async () => {
    const own = { ...checkout(sample), home: temporaryDirectory('empty-store') }
    expect(await json('lock --check', own)).toEqual({ upToDate: true, compared: 'inputs' })
    const { code, stderr } = await run('lock --check', own)
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(/^polder: only the inputs were compared: the index lacks \d+ pins\n$/) as string,
    })
  })

  test('--check is quiet about a current lock and exits with 3 for any other, naming what changed', async () => {
    const own = checkout(sample)
    expect(await printed('lock --check', own)).toBe('polder.lock is up to date\n')
    expect(await json('lock --check', own)).toEqual({ upToDate: true, compared: 'bytes' })
    edit(own, 'services/web/package.json', '"version": "1.0.0"', '"version": "1.0.1"')
    edit(own, 'services/web/package-lock.json', '"version": "1.0.0"', '"version": "1.0.1"')
    const { code, stdout, stderr } = await run('lock --check', own)
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
    expect(stderr).toMatchInlineSnapshot(`
      "polder: polder.lock is out of date: its inputs changed [LOCK_OUT_OF_DATE]
        services/web/package-lock.json changed
        services/web/package.json changed
        hint: run \`polder lock\` and commit the result
      "
    `)
    expect(await json('lock --check', own, 3)).toMatchObject({
      error: { code: 'LOCK_OUT_OF_DATE', hint: 'run `polder lock` and commit the result' },
    })
  })

  test('--check of a lock that is not there', async () => {
    const own = checkout(sample)
    rmSync(join(own.cwd, 'polder.lock'))
    expect(await run('lock --check', own)).toEqual({
      code: 3,
      stdout: '',
      stderr:
        'polder: polder.lock is out of date: it does not exist [LOCK_OUT_OF_DATE]\n  hint: run `polder lock` and commit the result\n',
    })
    expect((await run('lock --offline', own)).code).toBe(0)
    expect((await run('lock --check', own)).code).toBe(0)
  })

  test('refuses a manifest that its lockfile does not know, and gives the command that mends it', async () => {
    const own = checkout(sample)
    edit(own, 'services/api/package.json', '"gamma": "^2.0.0"', '"gamma": "^3.0.0"')
    const { code, stderr } = await run('lock', own)
    expect(code).toBe(3)
    expect(stderr).toContain('[LOCKFILE_STALE]')
    expect(stderr).toMatchInlineSnapshot(`
      "polder: services/api/package.json requires "gamma" as "^3.0.0", but services/api/package-lock.json locked it as "^2.0.0" [LOCKFILE_STALE]
        wanted ^3.0.0
        found  ^2.0.0
        hint: run \`npm install --package-lock-only\` in services/api
      "
    `)
  })

  test('refuses to split a name that the policy wants once', async () => {
    const own = checkout(sample)
    edit(own, 'polder.yaml', 'platforms:', 'policy:\n  single: [gamma]\nplatforms:')
    const { code, stdout, stderr } = await run('lock --offline', own)
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toContain('[SINGLE_SPLIT]')
    expect(stderr).toMatchInlineSnapshot(`
      "polder: gamma must not be split (policy.single), and no locked version satisfies everyone [SINGLE_SPLIT]
        1.5.0 is needed by services/web (^1.0.0)
        2.5.0 is needed by services/api (^2.0.0)
        hint: bump gamma in services/web to ^2.0.0, and 1.5.0 goes
      "
    `)
  })

  test('index sync has nothing to do where everything is there', async () => {
    expect(await printed('index sync', sample)).toMatchInlineSnapshot(`
      "6 pins in the index, none fetched
        6 releases recorded
      "
    `)
    expect(await printed('index sync', sample)).toMatchInlineSnapshot(`
      "6 pins in the index, none fetched
      "
    `)
    expect(await json('index sync', sample)).toMatchObject({
      pins: 6,
      fetched: 0,
      bytes: 0,
      releases: { recorded: 0, verified: 0 },
      drift: [],
    })
  })
})

describe('install', () => {
  test('tells what it did, and which packages are not built', async () => {
    const own = checkout(sample, { ownStore: true })
    expect(await printed('install', own)).toMatchInlineSnapshot(`
      "5 packages installed in <time>
        environment <id> was there already, 7 links in this checkout
        not built (see polder approve): native@1.0.0
      "
    `)
    expect(await printed('install', own)).toBe('Already up to date (<time>)\n')
    expect(await json('install', own)).toEqual({
      upToDate: true,
      environment: expect.stringMatching(/^[0-9a-f]{40,64}$/) as string,
    })
    const whole = (await json('install --layout self-contained', own)) as Record<string, unknown>
    expect(whole).toEqual({
      upToDate: false,
      environment: expect.any(String) as string,
      environmentPath: null,
      layout: 'self-contained',
      packages: 5,
      built: expect.any(Boolean) as boolean,
      replaced: [],
      links: expect.any(Number) as number,
      files: { linked: expect.any(Number) as number, copied: 0 },
      notBuilt: ['native@1.0.0'],
      notRun: [],
      unsupported: [],
    })
    // The layout of the configuration is back.
    expect(await printed('install', own)).toContain('was there already')
    expect(await printed('install --quiet --force', own)).toBe('')
  })

  test('refuses a lock that is older than its inputs', async () => {
    const own = checkout(sample)
    edit(own, 'services/web/package.json', '"version": "1.0.0"', '"version": "1.0.1"')
    expect(await run('install', own)).toEqual({
      code: 3,
      stdout: '',
      stderr:
        'polder: polder.lock is out of date: 1 file changed since it was made [LOCK_OUT_OF_DATE]\n  services/web/package.json changed\n  hint: run `polder lock` and commit the result\n',
    })
  })

  test('knows that there is nothing to do where POLDER_HOME is relative, too', async () => {
    const own = { ...checkout(sample), home: 'own-store' }
    await polderDone(['lock'], own)
    await polderDone(['install'], own)
    expect(await json('install', own)).toMatchObject({ upToDate: true })
  })

  test('refuses a platform that was not locked', async () => {
    const own = checkout(sample)
    writeFileSync(join(own.cwd, 'polder.yaml'), 'platforms: [win32-arm64]\n')
    expect((await run('lock --offline', own)).code).toBe(0)
    const { code, stderr } = await run('install', own)
    expect(code).toBe(1)
    expect(stderr).toMatch(/^polder: .*win32-arm64.* \[PLATFORM_NOT_LOCKED\]\n/)
    expect(stderr).toContain('polder.yaml')
  })

  test('says which lock is missing', async () => {
    const own = checkout(sample)
    writeFileSync(join(own.cwd, 'services/polder.yaml'), '')
    const { code, stderr } = await run('install', { ...own, cwd: join(own.cwd, 'services') })
    expect(code).toBe(1)
    expect(stderr).toBe(
      `polder: there is no polder.lock in ${join(own.cwd, 'services')} [LOCK_NOT_FOUND]\n  hint: run \`polder lock\`\n`,
    )
  })
})
