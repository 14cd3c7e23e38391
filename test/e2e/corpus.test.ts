import { createHash } from 'node:crypto'
import { existsSync, globSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'

import { copyRepository, polder, polderDone, temporaryDirectory } from '../support/cli.ts'
import { describeViolation, walkEdges, type Walked } from '../support/edge-walk.ts'
import {
  declaredInPackageLock,
  declaredInPolderLock,
  declaredInYarnLock,
  mustSplit,
  together,
  type Declarations,
} from '../support/must-split.ts'
import { readOriginalLocks } from '../support/original-locks.ts'

// Manifests and lockfiles of real repositories, no part of this one: a directory of directories.
const CORPUS = process.env['POLDER_CORPUS'] ?? fileURLToPath(new URL('../../../shared/corpus', import.meta.url))
const INSTALL = 180_000

interface LockResult {
  readonly services: number
  readonly names: number
  readonly optimal: boolean
  readonly after: number
  readonly lowerBound: number
  readonly firstHand: { readonly all: number; readonly production: number }
  readonly splits: Readonly<Record<string, { readonly proven: boolean; readonly follows?: readonly string[] }>>
}

/** Where the corpus is missing, the title says why nothing was tested. */
function describeRepository(name: string, run: (source: string) => void): void {
  const source = join(CORPUS, name)
  const there = existsSync(source)
  describe.skipIf(!there)(there ? name : `${name} (skipped: it is not in the corpus at $POLDER_CORPUS)`, () => {
    run(source)
  })
}

/** One store for all of them, as a machine has it. */
let home: string
beforeAll(() => {
  home = realpathSync(temporaryDirectory('corpus-store'))
})

async function initAndLock(cwd: string): Promise<LockResult> {
  if (!existsSync(join(cwd, 'polder.yaml'))) await polderDone(['init'], { cwd, home })
  return JSON.parse(await polderDone(['lock', '--json'], { cwd, home, upstream: true })) as LockResult
}

function firstHand({ splits }: LockResult): string[] {
  return Object.keys(splits).filter((name) => splits[name]?.follows === undefined)
}

/**
 * How many names there are, how many with more than one version, and how many no single version can serve, in all and in
 * production: what the description of the corpus says of lockfiles, counted as it counts.
 */
function figures(declarations: Declarations): readonly number[] {
  const versions = Map.groupBy(declarations.packages, ({ name }) => name)
  const several = [...versions.values()].filter((all) => new Set(all.map(({ version }) => version)).size > 1)
  const split = [false, true].map((production) => mustSplit(declarations, production).length)
  return [versions.size, several.length, ...split]
}

function keptFigures(cwd: string): { readonly all: number; readonly production: number } {
  const [, , all = Number.NaN, production = Number.NaN] = figures(
    declaredInPolderLock(readFileSync(join(cwd, 'polder.lock'), 'utf8')),
  )
  return { all, production }
}

async function installAndWalk(cwd: string, layout: string, lockfiles: readonly string[]): Promise<Walked> {
  await polderDone(['install', '--layout', layout], { cwd, home })
  const root = realpathSync(cwd)
  const workspace = join(root, 'pnpm-workspace.yaml')
  const settings = existsSync(workspace)
    ? (parse(readFileSync(workspace, 'utf8')) as {
        catalog?: Record<string, string>
        catalogs?: Record<string, Record<string, string>>
      })
    : {}
  const walked = walkEdges({
    root,
    inside: layout === 'linked' ? [root, join(home, 'envs')] : [root],
    original: readOriginalLocks(root, lockfiles),
    catalogs: { ...settings.catalogs, ...(settings.catalog === undefined ? {} : { default: settings.catalog }) },
  })
  console.log(
    `${walked.packages} packages, ${walked.edges} edges; violated by the original lockfiles: ${walked.baseline.map(describeViolation).join('; ') || 'none'}`,
  )
  return walked
}

describeRepository('vuejs-core', (source) => {
  test(
    'every edge of its 18 importers is satisfied where Node looks, and nothing is split that need not be',
    { timeout: INSTALL },
    async () => {
      const cwd = copyRepository(source)
      const lock = await initAndLock(cwd)
      expect(lock).toMatchObject({ services: 18, optimal: true })
      // 46 names have more than one version in its own lockfile.
      expect(Object.keys(lock.splits).length).toBeLessThanOrEqual(33)
      expect(keptFigures(cwd).production).toBe(0)
      expect(Object.values(lock.splits).filter(({ proven }) => !proven)).toEqual([])
      const { violations, baseline, packages, edges } = await installAndWalk(cwd, 'linked', ['pnpm-lock.yaml'])
      expect(violations).toEqual([])
      expect(baseline).toEqual([])
      expect({ packages, edges }).toEqual({ packages: 486, edges: 979 })
      expect(JSON.parse(await polderDone(['verify', '--json'], { cwd, home }))).toMatchObject({ clean: true })
    },
  )
})

describeRepository('microservices-demo', (source) => {
  const lockfiles = ['src/currencyservice', 'src/paymentservice'].map((path) => `${path}/package-lock.json`)

  test.for(['linked', 'self-contained'])(
    'every edge of its two services is satisfied where Node looks, and nothing is split that need not be (%s)',
    { timeout: INSTALL },
    async (layout) => {
      const cwd = copyRepository(source)
      const lock = await initAndLock(cwd)
      expect(lock).toMatchObject({ services: 2, optimal: true })
      // 25 names have more than one version in its lockfiles.
      expect(Object.keys(lock.splits).length).toBeLessThanOrEqual(19)
      expect(Object.values(lock.splits).filter(({ proven }) => !proven)).toEqual([])
      const { violations, baseline, packages, edges } = await installAndWalk(cwd, layout, lockfiles)
      expect(violations).toEqual([])
      expect(baseline).toEqual([])
      expect({ packages, edges }).toEqual({ packages: 271, edges: 591 })
      expect(JSON.parse(await polderDone(['verify', '--json'], { cwd, home }))).toMatchObject({ clean: true })
    },
  )
})

describeRepository('aks-store-demo', (source) => {
  const MISSING = 'rabbitmq-amqp-js-client'
  const lockfiles = ['src/order-service', 'src/store-admin', 'src/store-front', 'tests'].map(
    (path) => `${path}/package-lock.json`,
  )
  let cwd: string

  /** Not every registry has this one, so it goes: out of the manifest and out of the lockfile. */
  function takeOut(directory: string): void {
    const edit = (
      file: string,
      change: (json: {
        dependencies: Record<string, string>
        packages: Record<string, { dependencies: Record<string, string> }>
      }) => void,
    ): void => {
      const json = JSON.parse(readFileSync(join(directory, file), 'utf8')) as Parameters<typeof change>[0]
      change(json)
      writeFileSync(join(directory, file), `${JSON.stringify(json, null, 2)}\n`)
    }
    edit('package.json', ({ dependencies }) => delete dependencies[MISSING])
    edit('package-lock.json', ({ packages }) => {
      delete packages['']?.dependencies[MISSING]
      delete packages[`node_modules/${MISSING}`]
    })
  }

  beforeAll(async () => {
    cwd = copyRepository(source)
    await polderDone(['init'], { cwd, home })
  })

  test(
    `a pin that the registry lacks (${MISSING}) is reported with who needs it, and all others are fetched`,
    { timeout: INSTALL },
    async (context) => {
      const { code, stdout } = await polder(['lock', '--json'], { cwd, home, upstream: true })
      if (code === 0) context.skip(`the registry here has ${MISSING}`)
      expect(code).toBe(1)
      const { error } = JSON.parse(stdout) as {
        error: { code: string; message: string; spec: string; others?: unknown }
      }
      expect(error).toMatchObject({ code: 'FETCH_FAILED', spec: `${MISSING}@0.2.0` })
      expect(error.message).toMatch(/answered 404, needed by src\/order-service$/)
      expect(error.others).toBeUndefined()
      const rest = copyRepository(cwd)
      takeOut(join(rest, 'src/order-service'))
      await polderDone(['lock', '--offline'], { cwd: rest, home })
    },
  )

  describe(`without ${MISSING}`, () => {
    beforeAll(() => {
      takeOut(join(cwd, 'src/order-service'))
    })

    test('nothing is split that need not be', { timeout: INSTALL }, async () => {
      const lock = await initAndLock(cwd)
      expect(lock).toMatchObject({ services: 4, optimal: true })
      // With locked versions alone 72 is the least: so says an exact solver (HiGHS) of the same problem, compiled from
      // the lockfiles without any of this code. No single version can serve 51 names of the lockfiles, 8 in production;
      // the others are split because of these.
      const original = lockfiles.map((path) => declaredInPackageLock(readFileSync(join(source, path), 'utf8')))
      expect(figures(together(original))).toEqual([818, 211, 51, 8])
      const kept = keptFigures(cwd)
      expect(kept.all).toBeLessThanOrEqual(51)
      expect(kept.production).toBeLessThanOrEqual(8)
      expect(Object.keys(lock.splits).length).toBe(72)
      expect(lock.firstHand.all).toBeLessThanOrEqual(51)
      expect(lock.firstHand.production).toBeLessThanOrEqual(8)
      expect(firstHand(lock)).toHaveLength(lock.firstHand.all)
      expect(Object.values(lock.splits).filter(({ proven }) => !proven)).toEqual([])
    })

    test.for(['linked', 'self-contained'])(
      'every edge of its four services is satisfied where Node looks (%s)',
      { timeout: INSTALL },
      async (layout) => {
        const { violations, baseline, packages, edges } = await installAndWalk(cwd, layout, lockfiles)
        expect(violations).toEqual([])
        expect(baseline).toEqual([])
        expect(packages).toBeGreaterThanOrEqual(815)
        expect(edges).toBeGreaterThanOrEqual(1680)
      },
    )
  })
})

// Hundreds of megabytes each: only where somebody asks for them.
describe.skipIf(process.env['POLDER_CORPUS_ALL'] !== '1')('the large ones (only with POLDER_CORPUS_ALL=1)', () => {
  describeRepository('experimenter', (source) => {
    test(
      'every edge of its five services, of yarn and of npm, is satisfied where Node looks',
      { timeout: 15 * 60_000 },
      async () => {
        const cwd = copyRepository(source)
        const lock = await initAndLock(cwd)
        expect(lock).toMatchObject({ services: 5, optimal: true })
        const read = (path: string): string => readFileSync(join(source, path), 'utf8')
        const workspaces = ['', 'experimenter/legacy/legacy-ui/core/', 'experimenter/nimbus_ui/static/']
        const original = [
          declaredInPackageLock(read('demo-app/frontend/package-lock.json')),
          declaredInPackageLock(read('experimenter/experimenter/reporting/reporting-ui/package-lock.json')),
          declaredInYarnLock(
            read('experimenter/yarn.lock'),
            workspaces.map((path) => read(`experimenter/${path}package.json`)),
          ),
          declaredInYarnLock(read('schemas/yarn.lock'), [read('schemas/package.json')]),
        ]
        expect(figures(together(original)).slice(0, 3)).toEqual([1609, 686, 160])
        expect(keptFigures(cwd).all).toBeLessThanOrEqual(160)
        expect(Object.keys(lock.splits).length).toBe(314)
        expect(lock.firstHand.all).toBeLessThanOrEqual(160)
        expect(firstHand(lock)).toHaveLength(lock.firstHand.all)
        expect(Object.values(lock.splits).filter(({ proven }) => !proven)).toEqual([])
        const lockfiles = ['experimenter/yarn.lock', 'schemas/yarn.lock', 'demo-app/frontend/package-lock.json']
        const { violations, packages, edges } = await installAndWalk(cwd, 'linked', lockfiles)
        expect(violations).toEqual([])
        expect({ packages, edges }).toEqual({ packages: 1927, edges: 4886 })
        expect(JSON.parse(await polderDone(['verify', '--json'], { cwd, home }))).toMatchObject({ clean: true })
      },
    )
  })

  describeRepository('langfuse', (source) => {
    test(
      'is locked without its patches, which the corpus lacks, and their absence is said',
      { timeout: 15 * 60_000 },
      async () => {
        const cwd = copyRepository(source)
        await polderDone(['init'], { cwd, home })
        const { code, stdout, stderr } = await polder(['lock'], { cwd, home, upstream: true })
        expect(code, stderr).toBe(0)
        expect(stdout).toContain('(proven to be the fewest)')
        const again = await polder(['lock', '--offline', '--quiet'], { cwd, home, nodeOptions: REPORTING })
        const [, memory] = /^memory (\d+)$/m.exec(again.stderr) ?? []
        expect(Number(memory) / 1024).toBeLessThanOrEqual(200)
        expect(stderr.match(/^warning: patches\/.* does not exist: .*$/gm)).toHaveLength(3)
        expect(await polder(['install'], { cwd, home })).toMatchObject({
          code: 1,
          stderr: expect.stringMatching(
            /^polder: the patch patches\/.*\.patch of .*\(patch=[0-9a-f]{12}\) does not exist/,
          ) as string,
        })
      },
    )

    test(
      'with patches it is installed, verified, and its patched packages are patched',
      { timeout: 15 * 60_000 },
      async () => {
        const cwd = copyRepository(source)
        const patched = writePatches(cwd)
        const lock = await initAndLock(cwd)
        // Some of its packages are there under their own name and under an alias, and count once.
        expect(lock).toMatchObject({ services: 9, optimal: true, lowerBound: lock.after })
        expect(Object.values(lock.splits).filter(({ proven }) => !proven)).toEqual([])
        const { violations } = await installAndWalk(cwd, 'linked', ['pnpm-lock.yaml'])
        expect(violations).toEqual([])
        for (const id of patched) {
          const name = id.slice(0, id.indexOf('@', 1))
          const installed = [
            ...globSync(`envs/*/{node_modules,variants/*/node_modules}/${name}/${PATCHED_FILE}`, { cwd: home }),
          ]
          expect(installed, name).not.toEqual([])
        }
        expect(JSON.parse(await polderDone(['verify', '--json'], { cwd, home }))).toMatchObject({ clean: true })
      },
    )
  })
})

/** Says the most memory that the process had, in kB. */
const REPORTING = [
  '--import',
  "data:text/javascript,process.on('exit', () => console.error('memory', process.resourceUsage().maxRSS))",
]

const PATCHED_FILE = 'patched-for-a-test.txt'

/** Patches of our own where pnpm's lockfile has the hashes of those that the corpus lacks. */
function writePatches(cwd: string): string[] {
  const lockfile = join(cwd, 'pnpm-lock.yaml')
  let text = readFileSync(lockfile, 'utf8')
  const { patchedDependencies } = parse(readFileSync(join(cwd, 'pnpm-workspace.yaml'), 'utf8')) as {
    patchedDependencies: Record<string, string>
  }
  const { patchedDependencies: hashes } = parse(text, { maxAliasCount: -1 }) as {
    patchedDependencies: Record<string, string>
  }
  for (const [id, path] of Object.entries(patchedDependencies)) {
    const patch = `diff --git a/${PATCHED_FILE} b/${PATCHED_FILE}\nnew file mode 100644\n--- /dev/null\n+++ b/${PATCHED_FILE}\n@@ -0,0 +1 @@\n+${id}\n`
    mkdirSync(dirname(join(cwd, path)), { recursive: true })
    writeFileSync(join(cwd, path), patch)
    text = text.replaceAll(hashes[id] ?? 'nothing', createHash('sha256').update(patch).digest('hex'))
  }
  writeFileSync(lockfile, text)
  return Object.keys(patchedDependencies)
}
