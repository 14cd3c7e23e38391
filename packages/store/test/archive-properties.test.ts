import fc from 'fast-check'
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

import { readTree, treeId, unpackTrees, verifyTree } from '../src/index.ts'
import { pax, tgz, type Entry } from './support/tar-writer.ts'
import { put, temporaryStore } from './support/temporary-store.ts'

const segment = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom('package', 'lib', 'a', 'b', 'A', 'index.js', 'é', 'e\u0301', 'aux', '__proto__'),
  },
  { weight: 2, arbitrary: fc.constantFrom('..', '.', '', '/', 'C:', 'a\\b', 'x\0y', '\n') },
  { weight: 1, arbitrary: fc.string({ maxLength: 12 }) },
)
const path = fc.array(segment, { minLength: 1, maxLength: 5 }).map((segments) => segments.join('/'))
const evilPath = fc.oneof(
  { weight: 4, arbitrary: path.map((rest) => `package/${rest}`) },
  { weight: 1, arbitrary: path },
)
const anyEntry: fc.Arbitrary<readonly Entry[]> = fc
  .record({
    path: evilPath,
    data: fc.string({ maxLength: 40 }),
    type: fc.constantFrom('0', '0', '0', '0', '5', '1', '2', '3', '6', 'V'),
    link: path,
    mode: fc.constantFrom(0o644, 0o755, 0o777, 0o4755),
    extended: fc.boolean(),
  })
  .map(({ extended, data, type, link, ...entry }) => {
    const written = { ...entry, type, data: type === '0' ? data : '', link: type === '1' || type === '2' ? link : '' }
    return extended ? [pax({ path: entry.path }), { ...written, path: 'short' }] : [written]
  })

function listed(root: string, below = ''): string[] {
  return readdirSync(join(root, below), { withFileTypes: true }).flatMap((entry) => {
    const found = below === '' ? entry.name : `${below}/${entry.name}`
    return entry.isDirectory() ? listed(root, found) : [found]
  })
}

test('whatever an archive holds, it is refused or unpacked inside its root, as ordinary files', async () => {
  const store = temporaryStore()
  const around = join(store.home, '..')
  writeFileSync(join(around, 'secret'), 'untouched')
  let unpacked = 0
  await fc.assert(
    fc.asyncProperty(fc.array(anyEntry, { minLength: 1, maxLength: 5 }), async (entries) => {
      const integrity = await put(store, tgz(entries.flat()))
      const before = readdirSync(join(store.home, 'trees'))
      try {
        await unpackTrees(store, [{ id: treeId(integrity), integrity, label: 'any@1.0.0', bin: {} }])
      } catch (error) {
        expect(error).toMatchObject({ code: 'ARCHIVE_REFUSED' })
        expect(readdirSync(join(store.home, 'trees'))).toEqual(before)
        return
      } finally {
        expect(readdirSync(around).sort()).toEqual(['home', 'secret'])
        expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
      }
      unpacked += 1
      const tree = readTree(store, treeId(integrity))
      expect(listed(tree.path).sort()).toEqual([...tree.files].sort())
      for (const file of tree.files) expect(lstatSync(join(tree.path, file)).mode & 0o7222).toBe(0)
      expect(await verifyTree(store, treeId(integrity))).toEqual([])
    }),
    { numRuns: 300 },
  )
  expect(readFileSync(join(around, 'secret'), 'utf8')).toBe('untouched')
  // Otherwise the generator would only make what is refused anyway.
  expect(unpacked).toBeGreaterThan(20)
})

const name = fc.stringMatching(/^[a-z0-9_-][a-z0-9._-]{0,12}$/)
const packageFiles = fc.dictionary(
  fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/')),
  fc.record({ data: fc.uint8Array({ maxLength: 1500 }), executable: fc.boolean() }),
  { minKeys: 1, maxKeys: 8 },
)

test('what an ordinary archive holds is what is unpacked, byte for byte', async () => {
  const store = temporaryStore()
  await fc.assert(
    fc.asyncProperty(packageFiles, async (files) => {
      const paths = Object.keys(files)
      fc.pre(!paths.some((file) => paths.some((other) => other.startsWith(`${file}/`))))
      const entries = paths.map((file) => ({
        path: `p/${file}`,
        data: Buffer.from(files[file]?.data ?? []),
        mode: files[file]?.executable ? 0o755 : 0o644,
      }))
      const integrity = await put(store, tgz(entries))
      await unpackTrees(store, [{ id: treeId(integrity), integrity, label: 'p@1.0.0', bin: {} }])
      const tree = readTree(store, treeId(integrity))
      expect([...tree.files]).toEqual([...paths].sort())
      tree.files.forEach((file, index) => {
        expect(readFileSync(join(tree.path, file)).equals(files[file]?.data ?? Buffer.alloc(0))).toBe(true)
        expect(tree.executable.includes(index)).toBe(files[file]?.executable)
        expect(tree.sizes[index]).toBe(files[file]?.data.length)
      })
    }),
    { numRuns: 100 },
  )
})
