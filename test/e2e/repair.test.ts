import { appendFileSync, chmodSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { polder, polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

let registry: Registry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

describe.each(['linked', 'self-contained'])('a file that something wrote into, %s', (layout) => {
  async function damaged(): Promise<{ at: Invocation; file: string }> {
    const at = {
      cwd: join(temporaryDirectory('repair'), 'repository'),
      home: join(temporaryDirectory('repair'), 'store'),
    }
    const lib = registry.serve('lib', '1.0.0', { files: { 'index.js': 'module.exports = 1\n', 'gone.js': '' } })
    writeMonorepo(at.cwd, registry, { api: { manifest: { dependencies: { lib: '^1.0.0' } }, locked: { lib } } })
    appendFileSync(join(at.cwd, 'polder.yaml'), `layout: ${layout}\n`)
    await polderDone(['lock'], at)
    await polderDone(['install'], at)
    const directory = realpathSync(join(at.cwd, 'node_modules', 'lib'))
    chmodSync(join(directory, 'index.js'), 0o644)
    appendFileSync(join(directory, 'index.js'), 'process.exit(1)\n')
    rmSync(join(directory, 'gone.js'))
    return { at, file: join(directory, 'index.js') }
  }

  test('is named by verify, which says how to mend it', async () => {
    const { at, file } = await damaged()
    const { code, stderr } = await polder(['verify'], at)
    expect(code).toBe(5)
    expect(stderr).toContain(`differs  ${layout === 'linked' ? file : 'node_modules/lib/index.js'}  (lib@1.0.0)`)
    expect(stderr).toMatch(/missing {2}.*gone\.js {2}\(lib@1\.0\.0\)/)
    expect(stderr).toContain('hint: run `polder verify --repair`')
  })

  test('is made again by verify --repair, from the artifact and without the network', async () => {
    const { at, file } = await damaged()
    const asked = registry.requests.length
    await polderDone(['verify', '--repair'], at)
    expect(readFileSync(file, 'utf8')).toBe('module.exports = 1\n')
    expect(await polderDone(['verify'], at)).toContain('1 package verified')
    expect(await polderDone(['install'], at)).toMatch(/^Already up to date/)
    expect(registry.requests.length).toBe(asked)
  })
})
