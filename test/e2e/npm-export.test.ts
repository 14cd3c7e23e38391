import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { beforeAll, describe, expect, test } from 'vitest'

import { copyExample, finish, polder, polderDone, scrubbedEnvironment, temporaryDirectory } from '../support/cli.ts'

const SERVICES = ['services/berths', 'services/cranes', 'services/customs']

// npm is that of the machine, as users have it.
describe('the lock as a package-lock.json', () => {
  let exported: string

  beforeAll(async () => {
    const cwd = copyExample('harbour')
    const home = temporaryDirectory('npm-export-store')
    writeFileSync(join(cwd, 'polder.yaml'), `services: [${SERVICES.join(', ')}]\n`)
    await polderDone(['lock'], { cwd, home, upstream: true })
    exported = join(temporaryDirectory('npm-export'), 'harbour')
    for (const service of SERVICES) cpSync(join(cwd, service), join(exported, service), { recursive: true })
    await polderDone(['export', 'package-lock', '--output', exported], { cwd, home })
  })

  test('holds no host and no absolute path', () => {
    const text = readFileSync(join(exported, 'package-lock.json'), 'utf8')
    expect(text).not.toMatch(/https?:/)
    expect(text).not.toContain(dirname(exported))
  })

  test('is what npm ci installs, and checks of services pass in it', async () => {
    const env = scrubbedEnvironment({ home: exported, upstream: true })
    const installed = await finish('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: exported, env })
    expect(installed).toMatchObject({ code: 0 })
    // chalk is split: what is not at the root is where only its service sees it.
    expect(existsSync(join(exported, 'services/cranes/node_modules/chalk/package.json'))).toBe(true)
    // Not customs: two packages have a command `uuid`, and npm's one .bin gives it that of the other.
    for (const service of ['services/berths', 'services/cranes']) {
      const checked = await finish('npm', ['run', '--silent', 'check'], { cwd: join(exported, service), env })
      expect({ service, ...checked }).toMatchObject({ service, code: 0 })
    }
  })
})

test('requirements that npm does not understand are refused by name', async () => {
  const cwd = copyExample('harbour')
  const home = temporaryDirectory('npm-export-store')
  await polderDone(['lock'], { cwd, home, upstream: true })
  const { code, stderr } = await polder(['export', 'package-lock'], { cwd, home })
  expect(code).toBe(1)
  expect(stderr).toContain('[EXPORT_UNSUPPORTED]')
  expect(stderr).toMatch(/asks for @harbour\/tide as workspace:/)
})
