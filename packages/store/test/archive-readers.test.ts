import { PolderError } from '@polder/spec'
import { hash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { type ArchiveReaders, openArchiveReaders } from '../src/archives/archive-readers.ts'
import { tgz } from './support/tar-writer.ts'
import { temporaryDirectory } from './support/temporary-store.ts'

const file = (path: string, data = ''): { path: string; data: string } => ({ path, data })
const PACKAGE_JSON = '{"name":"foo","version":"1.0.0"}'
const sound = (): Buffer =>
  tgz([file('package/package.json', PACKAGE_JSON), file('package/lib/run.js', '#!/bin/sh\r\n')])

describe.each([
  ['here', 1],
  ['in threads', 1000],
])('archives that are read %s', (_, expected) => {
  let readers: ArchiveReaders
  beforeAll(() => void (readers = openArchiveReaders(expected)))
  afterAll(() => readers.close())

  test('say what is in them, and are written as trees', async () => {
    const directory = join(temporaryDirectory(), 'tree')
    const shasum = hash('sha1', sound())
    const bytes = await readers.use(sound, 'foo@1.0.0', async (archive) => {
      expect(archive).toMatchObject({ shasum, packageJson: PACKAGE_JSON, hasBindingGyp: false })
      return archive.write(directory, { run: 'lib/run.js' })
    })
    expect(bytes).toBe(PACKAGE_JSON.length + '#!/bin/sh\n'.length)
    expect(readdirSync(directory).sort()).toEqual(['files.json', 'package'])
    expect(readFileSync(join(directory, 'package/lib/run.js'), 'utf8')).toBe('#!/bin/sh\n')
    expect(statSync(join(directory, 'package/lib/run.js')).mode & 0o777).toBe(0o555)
  })

  test('have no package.json, or a binding.gyp', async () => {
    const archive = (): Buffer => tgz([file('package/binding.gyp', '{}')])
    const found = await readers.use(archive, 'foo@1.0.0', async ({ packageJson, hasBindingGyp }) => ({
      packageJson,
      hasBindingGyp,
    }))
    expect(found).toEqual({ packageJson: undefined, hasBindingGyp: true })
  })

  test('are refused with the error that says why, and the next one is read', async () => {
    const evil = (): Buffer => tgz([file('package/../../evil', 'x')])
    const refused = readers.use(evil, 'evil@1.0.0', async () => undefined)
    await expect(refused).rejects.toBeInstanceOf(PolderError)
    await expect(refused).rejects.toMatchObject({
      code: 'ARCHIVE_REFUSED',
      message: 'the archive of evil@1.0.0 is refused: its entry "package/../../evil" leads out of the package',
      details: { spec: 'evil@1.0.0' },
    })
    expect(await readers.use(sound, 'foo@1.0.0', async ({ packageJson }) => packageJson)).toBe(PACKAGE_JSON)
  })

  test('that cannot be written fail with the code of the system', async () => {
    const nowhere = join(temporaryDirectory(), 'nowhere/tree')
    const failed = readers.use(sound, 'foo@1.0.0', (archive) => archive.write(nowhere, {}))
    await expect(failed).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('are read many at a time, each for who asked', async () => {
    const names = Array.from({ length: 50 }, (_, at) => `foo-${at}`)
    const found = names.map((name) =>
      readers.use(
        () => tgz([file('package/package.json', name)]),
        name,
        async ({ packageJson }) => packageJson,
      ),
    )
    expect(await Promise.all(found)).toEqual(names)
  })
})

test('a thread that ends fails what it was asked, and what it is asked from then on', async () => {
  const readers = openArchiveReaders(1000)
  const read = (): Promise<string> => readers.use(sound, 'foo@1.0.0', async () => 'read')
  const asked = expect(read()).rejects.toThrow('a thread that reads archives ended')
  readers.close()
  await asked
  await expect(read()).rejects.toThrow('a thread that reads archives ended')
})
