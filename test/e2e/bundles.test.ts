import { createHash, randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest'

import { buildRelease } from '../../scripts/release.ts'
import { copyExample, finish, polder, polderDone, scrubbedEnvironment, temporaryDirectory } from '../support/cli.ts'
import { CHECKS } from '../support/harbour-checks.ts'
import { copyStore, writeChain, writeMonorepo } from '../support/monorepo.ts'
import { mountNamespace, noMounts } from '../support/mounts.ts'
import { networkCut } from '../support/network-cut.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

const KILL_AT_CHANGE = new URL('../support/kill-at-change.ts', import.meta.url).pathname
const TIMEOUT = 120_000
const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')

function emptyHome(): string {
  return join(temporaryDirectory('store'), 'store')
}

describe('harbour, carried across an air gap', () => {
  const cut = networkCut()
  let bundle: string
  let source: string

  beforeAll(async () => {
    source = copyExample('harbour')
    const home = emptyHome()
    await polderDone(['lock'], { cwd: source, home, upstream: true })
    await polderDone(['index', 'sync'], { cwd: source, home, upstream: true })
    bundle = join(temporaryDirectory('bundle'), 'harbour.tar')
    await polderDone(['index', 'export', bundle], { cwd: source, home })
  })

  function inside(context: TestContext): readonly string[] {
    return 'refused' in cut ? context.skip(cut.refused) : cut.inside
  }

  test('a clone, the bundle and an empty store are all that install and every check need', async (context) => {
    const run = { cwd: copyExample('harbour'), home: emptyHome(), inside: inside(context) }
    expect(await polderDone(['index', 'import', bundle, '--write-lock'], run)).toMatch(
      /verified: \d+ artifacts, \d+ release records; \d+ were new\n {2}polder\.lock written\n$/,
    )
    expect(readFileSync(join(run.cwd, 'polder.lock'))).toEqual(readFileSync(join(source, 'polder.lock')))
    const again = join(temporaryDirectory('bundle'), 'again.tar')
    await polderDone(['index', 'export', again], run)
    expect(sha256(again)).toBe(sha256(bundle))
    await polderDone(['install'], run)
    const checks = await polder(['run', 'check'], run)
    expect(checks.code, checks.stderr).toBe(0)
    expect(
      checks.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual(CHECKS)
    await polderDone(['verify'], run)
    await polderDone(['index', 'verify'], run)
  })

  test('it is not imported without being told what is wrong with it', async () => {
    const damaged = join(temporaryDirectory('bundle'), 'damaged.tar')
    const bytes = readFileSync(bundle)
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
    writeFileSync(damaged, bytes)
    const run = { cwd: copyExample('harbour'), home: emptyHome() }
    const { code, stderr } = await polder(['index', 'import', damaged, '--write-lock'], run)
    expect(code).toBe(5)
    expect(stderr).toMatch(
      /^polder: .*damaged\.tar is refused: its member artifacts\/[0-9a-f]{40}\.tgz \(.+@.+\) is not what its list says \[BUNDLE_INVALID\]\n/,
    )
    expect(existsSync(join(run.cwd, 'polder.lock'))).toBe(false)
    expect(artifacts(run.home)).toEqual([])
  })
})

test('with candidates is enough to make the lock anew, and without is not', { timeout: TIMEOUT }, async () => {
  const registry = await startRegistry()
  try {
    const from = { cwd: join(temporaryDirectory('bundles'), 'repository'), home: emptyHome() }
    const [old, next] = [registry.serve('alpha', '1.0.0'), registry.serve('alpha', '1.1.0')]
    writeMonorepo(from.cwd, registry, {
      'services/web': { manifest: { dependencies: { alpha: '^1.1.0' } }, locked: { alpha: next } },
      'services/api': { manifest: { dependencies: { alpha: '^1.0.0' } }, locked: { alpha: old } },
    })
    await polderDone(['lock'], from)
    const [small, large] = [join(from.home, '../small.tar'), join(from.home, '../large.tar')]
    await polderDone(['index', 'export', small], from)
    expect(await polderDone(['index', 'export', large, '--with-candidates'], from)).toMatch(
      /has 1 artifact, 1 further candidate\n$/,
    )
    expect(await polder(['index', 'export', large, '--with-candidates', '--service', 'web'], from)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('[USAGE]') as string,
    })
    const requests = registry.requests.length
    const results = await Promise.all(
      [small, large].map(async (bundle) => {
        const to = { cwd: join(temporaryDirectory('checkout'), 'repository'), home: emptyHome() }
        cpSync(from.cwd, to.cwd, { recursive: true, filter: (path) => !path.endsWith('polder.lock') })
        const report = JSON.parse(await polderDone(['index', 'import', bundle, '--json'], to)) as object
        const { code } = await polder(['lock', '--offline'], to)
        return {
          ...report,
          code,
          same: code === 0 && sha256(join(to.cwd, 'polder.lock')) === sha256(join(from.cwd, 'polder.lock')),
        }
      }),
    )
    expect(results).toMatchObject([
      { artifacts: 1, candidates: 0, added: 1, missing: [], code: 4, same: false },
      { artifacts: 1, candidates: 1, added: 2, missing: [], code: 0, same: true },
    ])
    expect(registry.requests.length).toBe(requests)
  } finally {
    await registry.close()
  }
})

describe('a bundle', () => {
  let registry: Registry
  let cwd: string
  let home: string
  let bundle: string

  beforeAll(async () => {
    registry = await startRegistry()
    cwd = join(temporaryDirectory('bundles'), 'repository')
    home = emptyHome()
    writeChain(cwd, registry, { packages: 6, files: 3 })
    await polderDone(['lock'], { cwd, home })
    await polderDone(['index', 'sync'], { cwd, home })
    bundle = join(temporaryDirectory('bundle'), 'first.tar')
    await polderDone(['index', 'export', bundle], { cwd, home })
  })
  afterAll(() => registry.close())

  function copy(): string {
    const target = join(temporaryDirectory('checkout'), 'repository')
    cpSync(cwd, target, { recursive: true })
    return target
  }

  test(
    'is the same from another store, in another place, time zone, locale and umask, and from the release',
    { timeout: TIMEOUT },
    async () => {
      const other = { cwd: copy(), home: emptyHome() }
      await polderDone(['lock'], other)
      await polderDone(['index', 'sync'], other)
      const directory = temporaryDirectory('bundle')
      const env = { TZ: 'Pacific/Kiritimati', LC_ALL: 'tr_TR.UTF-8', LANG: 'tr_TR.UTF-8' }
      const strange = {
        ...other,
        cwd: join(other.cwd, 'services/web'),
        env,
        inside: ['sh', '-c', 'umask 077; exec "$@"', 'sh'],
      }
      await polderDone(['index', 'export', join(directory, 'second.tar')], strange)
      expect(sha256(join(directory, 'second.tar'))).toBe(sha256(bundle))
      const program = await buildRelease(join(directory, 'polder'))
      const released = await finish(process.execPath, [program, 'index', 'export', join(directory, 'third.tar')], {
        cwd: other.cwd,
        env: scrubbedEnvironment({ home: other.home, env: { TZ: 'America/St_Johns' } }),
      })
      expect(released.code, released.stderr).toBe(0)
      expect(sha256(join(directory, 'third.tar'))).toBe(sha256(bundle))
      const imported = await finish(process.execPath, [program, 'index', 'import', bundle], {
        cwd: other.cwd,
        env: scrubbedEnvironment({ home: emptyHome() }),
      })
      expect(imported.code, imported.stderr).toBe(0)
    },
  )

  test('is imported by several processes at once', async () => {
    const run = { cwd: copy(), home: emptyHome() }
    const results = await Promise.all(Array.from({ length: 4 }, () => polder(['index', 'import', bundle], run)))
    for (const { code, stderr } of results) expect(code, stderr).toBe(0)
    expect(artifacts(run.home)).toEqual(artifacts(home))
    expect(readdirSync(join(run.home, 'tmp'))).toEqual([])
    await polderDone(['install'], run)
  })

  test(
    'whose import is killed before any of its changes leaves nothing but whole artifacts, and is completed by the next',
    { timeout: TIMEOUT },
    async () => {
      const words = ['index', 'import', bundle, '--write-lock']
      const prepare = (): { cwd: string; home: string } => {
        const run = { cwd: copy(), home: emptyHome() }
        rmSync(join(run.cwd, 'polder.lock'))
        mkdirSync(run.home)
        cpSync(join(home, 'compile-cache'), join(run.home, 'compile-cache'), { recursive: true })
        return run
      }
      const countTo = join(temporaryDirectory('count'), 'changes')
      const nodeOptions = ['--import', KILL_AT_CHANGE]
      await polderDone(words, { ...prepare(), nodeOptions, env: { POLDER_COUNT_TO: countTo } })
      const changes = Number(readFileSync(countTo, 'utf8'))
      const points = Array.from({ length: 8 }, (_, index) => Math.ceil(((index + 1) * changes) / 9))
      let killed = 0
      for (const at of points) {
        const run = prepare()
        const { code } = await polder(words, { ...run, nodeOptions, env: { POLDER_KILL_AT: String(at) } })
        killed += code === null ? 1 : 0
        // Each is the hash of what is in it, and the lock comes last.
        const found = artifacts(run.home)
        if (existsSync(join(run.cwd, 'polder.lock'))) expect(found).toEqual(artifacts(home))
        await polderDone(words, run)
        expect(artifacts(run.home)).toEqual(artifacts(home))
        if (at === points.at(-1)) await polderDone(['install'], run)
      }
      expect(killed).toBeGreaterThan(5)
    },
  )

  test.skipIf(noMounts !== undefined)(
    `that does not fit the disk leaves nothing behind, and fits when there is room${noMounts === undefined ? '' : ` (skipped: ${noMounts})`}`,
    async () => {
      const own = { cwd: copy(), home: emptyHome() }
      copyStore(home, own.home)
      writeFileSync(join(own.cwd, 'browser.zip'), randomBytes(2_000_000))
      await polderDone(['index', 'add', 'browser.zip', '--as', 'https://host.example/browser.zip'], own)
      const large = join(temporaryDirectory('bundle'), 'large.tar')
      await polderDone(['index', 'export', large], own)
      const path = temporaryDirectory('disk')
      const disk = await mountNamespace(own.cwd)
      disk.run(`mount -t tmpfs -o size=1000k tmpfs ${path}`)
      const run = { cwd: own.cwd, home: path, inside: disk.inside }
      const { code, stderr } = await polder(['index', 'import', large], run)
      expect(code).toBe(1)
      expect(stderr).toMatch(
        /^polder: the disk is full: writing https:\/\/host\.example\/browser\.zip to .* \[DISK_FULL\]\n {2}hint: make room/,
      )
      expect(
        disk.run(
          `find ${path}/artifacts ${path}/tmp ${path}/locks ${path}/releases -type f 2>&1 | grep -v 'No such' || true`,
        ),
      ).toBe('')
      disk.run(`mount -o remount,size=64m ${path}`)
      expect(await polderDone(['index', 'import', large], run)).toContain('1 file')
    },
  )

  test('for one service, and one made against an older lock', async () => {
    const directory = temporaryDirectory('bundle')
    const run = { cwd, home }
    const web = JSON.parse(
      await polderDone(['index', 'export', join(directory, 'web.tar'), '--service', 'web', '--json'], run),
    ) as { artifacts: number }
    // Everything but the second major of `split`.
    expect(web.artifacts).toBe(artifacts(home).length - 1)
    const nothing = JSON.parse(
      await polderDone(['index', 'export', join(directory, 'none.tar'), '--since', 'polder.lock', '--json'], run),
    ) as { artifacts: number }
    expect(nothing.artifacts).toBe(0)
    const elsewhere = { cwd: copy(), home: emptyHome() }
    const { code, stdout, stderr } = await polder(['index', 'import', join(directory, 'none.tar')], elsewhere)
    expect(code).toBe(4)
    expect(stdout).toContain('verified: 0 artifacts; nothing was new')
    expect(stdout).toContain('9 pins of its lock are not in the store:\n    @demo-tools/tool@3.0.0\n')
    expect(stderr).toMatch(
      /^polder: it was made against an older lock \(sha256-[0-9a-f]{64}\): import the bundle of that one too\n$/,
    )
    await polderDone(['index', 'import', bundle], elsewhere)
    await polderDone(['index', 'import', join(directory, 'none.tar')], elsewhere)
  })

  test('is not overwritten by an export that fails', async () => {
    const path = join(temporaryDirectory('bundle'), 'kept.tar')
    writeFileSync(path, 'kept')
    const { code, stderr } = await polder(['index', 'export', path], { cwd, home: emptyHome() })
    expect(code).toBe(4)
    expect(stderr).toContain('artifacts of the lock are not in the store [ARTIFACT_MISSING]')
    expect(readFileSync(path, 'utf8')).toBe('kept')
  })
})

/** The names of all artifacts; each is the hash of what is in it. */
function artifacts(home: string): string[] {
  const directory = join(home, 'artifacts', 'sha512')
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.includes('/'))
    .sort()
  for (const name of names)
    expect(
      createHash('sha512')
        .update(readFileSync(join(directory, name)))
        .digest('hex'),
    ).toBe(name.replace('/', ''))
  return names
}
