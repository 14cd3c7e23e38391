import { chmodSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { integrityOf } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { treePath } from '../src/content-path.ts'
import {
  builtTreeId,
  discardStagedTrees,
  hasTree,
  packedTreeBytes,
  packTree,
  publishStagedTrees,
  publishTree,
  stageTree,
  type Store,
  verifyTree,
} from '../src/index.ts'
import { temporaryDirectory, temporaryStore } from './support/temporary-store.ts'

const RECIPE = JSON.stringify([1, 'addon@1.0.0', 'node-gyp rebuild'])
const ID = builtTreeId(RECIPE)
const LABEL = 'addon@1.0.0'

/** What a build could have left. */
function built(store: Store): void {
  const directory = temporaryDirectory()
  mkdirSync(join(directory, 'build/Release'), { recursive: true })
  mkdirSync(join(directory, 'empty'))
  writeFileSync(join(directory, 'package.json'), '{"name":"addon","version":"1.0.0"}')
  writeFileSync(join(directory, 'cli.js'), '#!/usr/bin/env node\n')
  chmodSync(join(directory, 'cli.js'), 0o755)
  writeFileSync(join(directory, 'build/Release/addon.node'), Buffer.from([0x7f, 0x45, 0, 10, 10]))
  writeFileSync(join(directory, 'build/none'), '')
  symlinkSync('cli.js', join(directory, 'link.js'))
  publishTree(store, ID, directory, {})
}

async function packed(store: Store): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of packedTreeBytes(store, await packTree(store, ID, RECIPE, LABEL))) pieces.push(piece)
  return Buffer.concat(pieces)
}

interface HostileFile {
  readonly path: string
  readonly bytes: number
  readonly [field: string]: unknown
}

/** A list that anybody could write, with as many zeros behind it as it says. */
function forged(list: { directories?: readonly string[]; files?: readonly HostileFile[]; recipe?: string }): Buffer {
  const { directories = [], files = [], recipe = RECIPE } = list
  const total = files.reduce((sum, { bytes }) => sum + Math.max(0, bytes), 0)
  return Buffer.concat([
    Buffer.from(`${JSON.stringify({ format: 1, recipe, directories, files })}\n`),
    Buffer.alloc(Math.min(total, 1000)),
  ])
}

/** Nothing of it may be left. */
function refusal(bytes: Buffer): string {
  const store = temporaryStore()
  let message = 'accepted'
  try {
    discardStagedTrees([stageTree(store, bytes, ID, LABEL)])
  } catch (error) {
    expect(error).toMatchObject({ code: 'ARCHIVE_REFUSED', details: { spec: LABEL } })
    message = (error as Error).message.replace(`the archive of ${LABEL} is refused: `, '')
  }
  expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  return message
}

describe('a packed tree', () => {
  test('becomes the same tree in another store, with its modes and empty directories', async () => {
    const from = temporaryStore()
    built(from)
    const to = temporaryStore()
    const staged = [stageTree(to, await packed(from), ID, LABEL)]
    expect(hasTree(to, ID)).toBe(false)
    publishStagedTrees(to, staged)
    discardStagedTrees(staged)
    for (const name of ['files.json', 'hashes.json', 'package/build/Release/addon.node'])
      expect(readFileSync(join(treePath(to, ID), name))).toEqual(readFileSync(join(treePath(from, ID), name)))
    expect(await verifyTree(to, ID)).toEqual([])
    expect(readdirSync(join(treePath(to, ID), 'package')).sort()).toEqual(
      ['build', 'cli.js', 'empty', 'link.js', 'package.json'].sort(),
    )
    expect(readdirSync(join(to.home, 'tmp'))).toEqual([])
    expect(await packed(to)).toEqual(await packed(from))
  })

  test('has the size and the hash that were said ahead', async () => {
    const store = temporaryStore()
    built(store)
    const { bytes, integrity } = await packTree(store, ID, RECIPE, LABEL)
    const whole = await packed(store)
    expect({ bytes, integrity }).toEqual({ bytes: whole.length, integrity: integrityOf('sha512', whole) })
  })

  test('is not made of a tree that was changed', async () => {
    const store = temporaryStore()
    built(store)
    const path = join(treePath(store, ID), 'package/build/Release/addon.node')
    chmodSync(path, 0o644)
    writeFileSync(path, Buffer.from([0x7f, 0x45, 0, 10, 11]))
    await expect(packTree(store, ID, RECIPE, LABEL)).rejects.toMatchObject({
      code: 'ARTIFACT_CORRUPT',
      message: 'build/Release/addon.node of addon@1.0.0 is not as it was built',
    })
  })

  test('leaves a tree as it is that is there already', async () => {
    const store = temporaryStore()
    built(store)
    const before = readFileSync(join(treePath(store, ID), 'files.json'))
    const staged = [stageTree(store, forged({ files: [{ path: 'evil.js', bytes: 4 }] }), ID, LABEL)]
    publishStagedTrees(store, staged)
    discardStagedTrees(staged)
    expect(readFileSync(join(treePath(store, ID), 'files.json'))).toEqual(before)
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  })
})

describe('refused, with nothing kept:', () => {
  test('the recipe of another build, so that no other tree can be replaced', () => {
    expect(refusal(forged({ recipe: '[1,"other@1.0.0"]' }))).toBe('its recipe is of another build')
  })

  const file = (path: string, more: object = {}): HostileFile => ({ path, bytes: 1, ...more })

  test.each([
    ['a path that leads out', { files: [file('../evil')] }, '"../evil" leads out of the package'],
    ['an absolute path', { files: [file('/etc/passwd')] }, '"/etc/passwd" is no plain path'],
    ['a drive letter', { files: [file('C:/x')] }, '"C:/x" has a drive letter'],
    ['a backslash', { files: [file('a\\b')] }, '"a\\\\b" has a backslash'],
    ['a control character', { files: [file('a\u001b[2J')] }, /has a control character$/],
    ['a dot', { files: [file('./a')] }, '"./a" is no plain path'],
    ['an empty name', { directories: ['a'], files: [file('a//b')] }, '"a//b" is no plain path'],
    ['no name', { files: [file('')] }, '"" is no plain path'],
    ['a directory that leads out', { directories: ['..'] }, '".." leads out of the package'],
    ['a file below a file', { files: [file('a'), file('a/b')] }, '"a/b" is a directory, but "a" is a file'],
    ['a directory that is a file', { directories: ['a'], files: [file('a')] }, '"a" is a file, but also a directory'],
    ['a directory that is not listed', { files: [file('a/b')] }, 'it does not list all its directories'],
    ['two names that are one on some disks', { files: [file('A'), file('a')] }, /cannot be told from "A"/],
    ['a name that is too long', { files: [file('a'.repeat(256))] }, /has a name longer than 255 bytes$/],
  ])('%s', (_, list, message) => {
    const found = refusal(forged(list))
    if (typeof message === 'string') expect(found).toBe(message)
    else expect(found).toMatch(message)
  })

  // There is no way to say any of these, so saying it is another form.
  test.each([
    ['a set-user-id bit', { files: [file('a', { mode: 0o4755 })] }],
    ['a link', { files: [file('a', { link: '/etc/passwd' })] }],
    ['a device', { files: [file('a', { type: 'CharacterDevice' })] }],
    ['keys in another order', { files: [{ path: 'a', executable: true, bytes: 1 }] }],
    ['another order', { files: [file('b'), file('a')] }],
    ['a file twice', { files: [file('a'), file('a')] }],
    ['a directory twice', { directories: ['a', 'a'] }],
  ])('%s', (_, list) => {
    expect(refusal(forged(list))).toBe('its list is not in the form in which polder writes it')
  })

  test.each([
    ['a size below zero', forged({ files: [{ path: 'a', bytes: -1 }] }), 'its list is damaged'],
    ['half a byte', forged({ files: [{ path: 'a', bytes: 0.5 }] }), 'its list is damaged'],
    [
      'files that are no list',
      Buffer.from('{"format":1,"recipe":"","directories":[],"files":{}}\n'),
      'its list is damaged',
    ],
    ['another format', Buffer.from('{"format":2}\n'), 'its list is damaged'],
    ['null', Buffer.from('null\n'), 'its list is damaged'],
    ['more than it holds', forged({ files: [{ path: 'a', bytes: 2000 }] }), 'its files are not as long as it says'],
    ['less than it holds', Buffer.concat([forged({}), Buffer.of(1)]), 'its files are not as long as it says'],
    ['other spaces', Buffer.from(forged({}).toString().replace(',', ', ')), /not in the form/],
    ['a key of JavaScript', Buffer.from(forged({}).toString().replace('{', '{"__proto__":{},')), /not in the form/],
    ['no list', Buffer.from('hello'), /^it does not begin with a list/],
    ['nothing', Buffer.alloc(0), /^it does not begin with a list/],
  ])('%s', (_, bytes, message) => {
    const found = refusal(bytes)
    if (typeof message === 'string') expect(found).toBe(message)
    else expect(found).toMatch(message)
  })
})
