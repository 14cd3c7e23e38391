import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { temporaryDirectory, type Invocation } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry, type ServedVersion } from '../support/registry.ts'
import { normalised, run } from '../support/sample.ts'

const DAY_MS = 86_400_000

let registry: Registry
let where: Invocation

beforeEach(async () => {
  registry = await startRegistry()
  where = { cwd: join(temporaryDirectory('pins'), 'repository'), home: join(temporaryDirectory('pins'), 'store') }
})
afterEach(() => registry.close())

function repository(
  locked: Readonly<Record<string, ServedVersion>>,
  config: string,
  lines: readonly string[] = [],
): void {
  const dependencies = Object.fromEntries(Object.entries(locked).map(([name, { version }]) => [name, version]))
  writeMonorepo(where.cwd, registry, { 'services/web': { manifest: { dependencies }, locked } })
  appendFileSync(join(where.cwd, 'polder.yaml'), `${config}\n`)
  appendFileSync(join(where.cwd, '.npmrc'), lines.map((line) => `${line}\n`).join(''))
}

const ago = (days: number): string => new Date(Date.now() - days * DAY_MS).toISOString()
const lockText = (): string => readFileSync(join(where.cwd, 'polder.lock'), 'utf8')

async function refused(line: string, code = 1): Promise<string> {
  const finished = await run(line, where)
  expect({ line, code: finished.code, stdout: finished.stdout }).toEqual({ line, code, stdout: '' })
  return normalised(finished.stderr, where).replaceAll(registry.url, '<registry>/')
}

async function done(line: string): Promise<string> {
  const finished = await run(line, where)
  if (finished.code !== 0) throw new Error(`${line}: ${finished.code}\n${finished.stdout}${finished.stderr}`)
  return finished.stdout
}

describe('policy.minimumReleaseAge', () => {
  const policy = 'policy: { minimumReleaseAge: 3d }'

  test('refuses a new version that is too young, with its date, who needs it, and from when it may be pinned', async () => {
    const published = ago(1)
    repository({ tide: registry.serve('tide', '1.0.0', { published }) }, policy)
    const from = new Date(Date.parse(published) + 3 * DAY_MS).toISOString()
    expect(await refused('lock')).toBe(
      `polder: tide@1.0.0 was published at ${published}, less than policy.minimumReleaseAge (3 days) ago; needed by services/web [RELEASE_REFUSED]\n` +
        `  hint: it may be pinned from ${from}; list tide@1.0.0 under policy.minimumReleaseAgeExclude in polder.yaml if it is to be pinned all the same\n`,
    )
    expect(await refused('lock --offline')).toContain('[RELEASE_REFUSED]')
  })

  test('leaves alone what polder.lock has already, and what is old enough or excluded', async () => {
    const tide = registry.serve('tide', '1.0.0', { published: ago(1) })
    repository({ tide }, '')
    await done('lock')
    const old = registry.serve('gull', '1.0.0', { published: ago(4) })
    const own = registry.serve('@acme/crane', '1.0.0', { published: ago(0) })
    repository(
      { tide, gull: old, '@acme/crane': own },
      'policy: { minimumReleaseAge: 4320, minimumReleaseAgeExclude: ["@acme/*"] }',
    )
    await done('lock')
    expect(lockText()).toContain('gull@1.0.0')
    // Of those, only the one that the rule is about was asked for.
    expect([registry.count('/tide'), registry.count('/gull'), registry.count('/@acme/crane')]).toEqual([0, 1, 0])
    const young = registry.serve('gull', '1.0.1', { published: ago(2) })
    repository({ tide, gull: young, '@acme/crane': own }, policy)
    const before = lockText()
    expect(await refused('lock')).toContain('gull@1.0.1 was published at')
    expect(lockText()).toBe(before)
  })

  test('goes by the recorded date, whatever the registry says later', async () => {
    const tide = registry.serve('tide', '1.0.0', { published: ago(1) })
    repository({ tide }, policy)
    await refused('lock')
    registry.serve('tide', '1.0.0', { published: ago(100) })
    expect(await refused('lock')).toContain('[RELEASE_REFUSED]')
  })

  test('refuses a date that is yet to come, and says that a clock may be wrong', async () => {
    const published = ago(-365)
    repository({ tide: registry.serve('tide', '1.0.0', { published }) }, policy)
    const error = await refused('lock')
    expect(error).toContain(`tide@1.0.0 was published at ${published}, which by this machine's clock (`)
    expect(error).toContain(') is yet to come; needed by services/web [RELEASE_DATE]\n  hint: set the clock right; ')
  })

  test('refuses a version without a date, unless it is excluded', async () => {
    const tide = registry.serve('tide', '1.0.0', { published: null })
    repository({ tide }, policy)
    expect(await refused('lock')).toBe(
      'polder: tide@1.0.0 has no known date of publication, which policy.minimumReleaseAge asks for; needed by services/web [RELEASE_DATE]\n' +
        '  hint: its registry does not say it; list tide@1.0.0 under policy.minimumReleaseAgeExclude in polder.yaml if it is to be pinned all the same\n',
    )
    repository({ tide }, 'policy: { minimumReleaseAge: 3d, minimumReleaseAgeExclude: [tide@1.0.0] }')
    await done('lock')
  })
})

test('policy.deny and policy.allow name what may be pinned, and every refusal its rule', async () => {
  const served = {
    tide: registry.serve('tide', '1.0.0'),
    gull: registry.serve('gull', '2.5.0'),
    '@acme/crane': registry.serve('@acme/crane', '1.0.0'),
  }
  repository(served, 'policy: { allow: ["@acme/*", gull], deny: ["gull@<3"] }')
  const error = await refused('lock')
  expect(error).toContain('polder: 2 new versions may not be pinned [RELEASE_REFUSED]')
  expect(error).toContain('gull@2.5.0 is denied by policy.deny: gull@<3; needed by services/web')
  expect(error).toContain('tide@1.0.0 is not among policy.allow; needed by services/web')
  // Rules without an age need no dates.
  expect(registry.count('/gull')).toBe(0)
  repository(served, 'policy: { allow: ["@acme/*", gull, tide@^1.0.0], deny: ["gull@>=3"] }')
  await done('lock')
})

describe('a private name', () => {
  test('is never asked of the public registry, although that has a higher version', async () => {
    const own = await startRegistry()
    try {
      const crane = own.serve('@acme/crane', '1.0.0')
      registry.serve('@acme/crane', '1.0.0', { files: { 'index.js': 'evil' } })
      registry.serve('@acme/crane', '99.0.0')
      const tide = registry.serve('tide', '1.0.0')
      const config = 'index: { private: ["@acme/*", acme-secret] }'
      repository({ tide, '@acme/crane': crane }, config)
      expect(await refused('lock')).toBe(
        "polder: @acme/crane@1.0.0 cannot be fetched: @acme/crane is private, and no other registry than its scope's own is asked for it, needed by services/web [PRIVATE_NAME]\n" +
          '  hint: set @acme:registry in .npmrc, or bring it with `polder index add FILE`\n',
      )
      repository({ tide, '@acme/crane': crane }, config, [`@acme:registry=${own.url}`])
      await done('lock')
      await done('index sync')
      await done('index sync --check')
      expect(registry.requests.map(({ path }) => path).filter((path) => path.includes('acme'))).toEqual([])
      expect(own.count('/@acme/crane')).toBeGreaterThan(0)

      const secret = own.serve('acme-secret', '1.0.0')
      repository({ tide, 'acme-secret': secret }, config)
      expect(await refused('lock')).toContain('take it out of index.private in polder.yaml')
      expect(registry.requests.map(({ path }) => path).filter((path) => path.includes('acme'))).toEqual([])
    } finally {
      await own.close()
    }
  })

  test('by URL does not lead to the public registry either', async () => {
    const evil = registry.serve('acme-secret', '1.0.0')
    repository({ tide: registry.serve('tide', '1.0.0') }, 'index: { private: [acme-secret] }')
    const path = join(where.cwd, 'services/web/package-lock.json')
    const lockfile = JSON.parse(readFileSync(path, 'utf8')) as { packages: Record<string, Record<string, unknown>> }
    const url = `${registry.url}elsewhere/acme-secret.tgz`
    registry.serveFile('/elsewhere/acme-secret.tgz', evil.bytes)
    lockfile.packages['node_modules/acme-secret'] = { version: '1.0.0', resolved: url, integrity: evil.integrity }
    for (const place of ['']) {
      const dependencies = { ...(lockfile.packages[place]?.['dependencies'] as object), 'acme-secret': url }
      lockfile.packages[place] = { ...lockfile.packages[place], dependencies }
      const manifest = join(where.cwd, 'services/web/package.json')
      writeFileSync(manifest, JSON.stringify({ ...JSON.parse(readFileSync(manifest, 'utf8')), dependencies }))
    }
    writeFileSync(path, JSON.stringify(lockfile))
    expect(await refused('lock')).toContain('[PRIVATE_NAME]')
    expect(registry.requests.map(({ path: asked }) => asked).filter((asked) => asked.includes('acme'))).toEqual([])
  })
})
