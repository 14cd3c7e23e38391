import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, expect, test } from 'vitest'

import { polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { writeMonorepo, type ServiceFiles } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'
import { json, printed, run } from '../support/sample.ts'

// Two services want different majors of glob, each of which brings a minimatch of its own, and that a brace. For
// development only they want different majors of chalk. Both have picky, which could use a brace, but neither of these.
let registry: Registry
let repository: Invocation
beforeAll(async () => {
  registry = await startRegistry()
  const picky = registry.serve('picky', '1.0.0', {
    peerDependencies: { brace: '^99.0.0' },
    peerDependenciesMeta: { brace: { optional: true } },
  })
  const service = (major: number): ServiceFiles => {
    const [brace, minimatch, glob] = [`${major}.1.0`, `${major}.2.0`, `${major}.3.0`]
    const range = `^${major}.0.0`
    return {
      manifest: { dependencies: { glob: range, picky: '1.0.0' }, devDependencies: { chalk: range } },
      locked: {
        glob: registry.serve('glob', glob, { dependencies: { minimatch: range } }),
        minimatch: registry.serve('minimatch', minimatch, { dependencies: { brace: range } }),
        'minimatch/node_modules/brace': registry.serve('brace', brace),
        chalk: registry.serve('chalk', `${major}.0.0`),
        picky,
      },
    }
  }
  const cwd = join(temporaryDirectory('splits'), 'repository')
  writeMonorepo(cwd, registry, { 'services/old': service(7), 'services/young': service(10) })
  repository = { cwd, home: join(temporaryDirectory('splits'), 'store') }
  await polderDone(['lock'], repository)
})
afterAll(() => registry.close())

test('lock says which splits are first-hand, in production too, and how many follow from them', async () => {
  expect(await printed('lock', repository)).toMatchInlineSnapshot(`
    "polder.lock unchanged in <time>
      2 services, 5 names
      9 → 9 packages (proven to be the fewest)
      4 names kept at several versions: 2 first-hand (1 in production), 2 that follow from those
        glob, and 2 splits that follow
          7.3.0      needed by services/old (^7.0.0)
          10.3.0     needed by services/young (^10.0.0)
        chalk
          7.0.0      needed by services/old (^7.0.0)
          10.0.0     needed by services/young (^10.0.0)
        brace
          7.1.0      needed by minimatch@7.2.0 (^7.0.0)
          10.1.0     needed by minimatch@10.2.0 (^10.0.0)
        minimatch
          7.2.0      needed by glob@7.3.0 (^7.0.0)
          10.2.0     needed by glob@10.3.0 (^10.0.0)
    "
  `)
  expect(await json('lock', repository)).toMatchObject({
    firstHand: { all: 2, production: 1 },
    splits: { brace: { follows: ['glob'] }, minimatch: { follows: ['glob'] } },
  })
})

test('explain has the causes first, and what follows from them after that', async () => {
  expect(await printed('explain', repository)).toMatchInlineSnapshot(`
    "glob is kept at 2 versions
      7.3.0   needed by services/old (^7.0.0)
      10.3.0  needed by services/young (^10.0.0)
      No locked version satisfies any two of these.
      From this follow the splits of brace, minimatch.
      bump glob in services/old to ^10.0.0, and 7.3.0 goes
      bump glob in services/young to ^7.0.0, and 10.3.0 goes
    chalk is kept at 2 versions
      7.0.0   needed by services/old (^7.0.0)
      10.0.0  needed by services/young (^10.0.0)
      No locked version satisfies any two of these.
      bump chalk in services/old to ^10.0.0, and 7.0.0 goes
      bump chalk in services/young to ^7.0.0, and 10.0.0 goes
    brace is kept at 2 versions
      7.1.0   needed by minimatch@7.2.0 (^7.0.0)
                services/old > glob@7.3.0 > minimatch@7.2.0 (^7.0.0)
      10.1.0  needed by minimatch@10.2.0 (^10.0.0)
                services/young > glob@10.3.0 > minimatch@10.2.0 (^10.0.0)
      No locked version satisfies any two of these.
      It follows from the split of glob.
    minimatch is kept at 2 versions
      7.2.0   needed by glob@7.3.0 (^7.0.0)
                services/old > glob@7.3.0 (^7.0.0)
      10.2.0  needed by glob@10.3.0 (^10.0.0)
                services/young > glob@10.3.0 (^10.0.0)
      No locked version satisfies any two of these.
      It follows from the split of glob.
    "
  `)
  expect(await json('explain', repository)).toMatchObject({
    splits: [
      { name: 'glob', follows: [], followers: ['brace', 'minimatch'] },
      { name: 'chalk', follows: [], followers: [] },
      { name: 'brace', follows: ['glob'], followers: [] },
      { name: 'minimatch', follows: ['glob'], followers: [] },
    ],
  })
})

test('a name that is kept off the flat root, for the sake of what it would not suit, is explained too', async () => {
  expect(await json('why brace', repository)).toMatchObject({ root: null })
  expect(await printed('explain brace', repository)).toContain('brace is kept at 2 versions')
  expect((await run('dedupe-check --only brace', repository)).code).toBe(1)
})

test('why names the cause of a split that follows from another', async () => {
  expect((await printed('why brace', repository)).trimEnd().split('\n').at(-1)).toBe(
    'It follows from the split of glob.',
  )
  expect((await run('why glob', repository)).stdout).not.toContain('follow')
})

test('what the policy wants is said instead of what cannot be otherwise', async () => {
  const lastOf = async (line: string): Promise<string | undefined> =>
    (await printed(line, repository)).trimEnd().split('\n').at(-1)
  const config = join(repository.cwd, 'polder.yaml')
  const before = readFileSync(config, 'utf8')
  writeFileSync(config, `${before}policy:\n  split: { chalk: old is being rewritten }\n`)
  await polderDone(['lock'], repository)
  expect(await lastOf('why chalk')).toBe('It is kept apart on purpose: old is being rewritten (policy.split).')
  expect(await printed('explain chalk', repository)).toContain('apart on purpose: old is being rewritten')
  writeFileSync(config, `${before}policy:\n  versions: highest\n`)
  await polderDone(['lock'], repository)
  expect(await lastOf('why glob')).toBe('Each has the newest that is locked of its range (policy.versions: highest).')
})
