import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { PolderError } from '@polder/spec'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { archiveManifest, openArchive } from '../src/archives/archive.ts'
import type { Archive } from '../src/archives/read-tar.ts'
import { hasTree, patchedTreeId, readTree, treeId, unpackTrees, verifyTree } from '../src/index.ts'
import { applyPackagePatch } from '../src/archives/patch.ts'
import { tgz } from './support/tar-writer.ts'
import { put, temporaryStore } from './support/temporary-store.ts'

const LABEL = 'foo@1.0.0'
const PATH = 'patches/foo.patch'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'polder-patch-'))
})
afterAll(() => {
  rmSync(directory, { recursive: true, force: true })
})

type Files = Readonly<Record<string, string | { readonly text: string; readonly executable: true }>>

function archiveOf(files: Files): Archive {
  const archived = Object.entries(files).map(([path, file]) => {
    const [text, executable] = typeof file === 'string' ? [file, false] : [file.text, true]
    return [path, { bytes: Buffer.from(text, 'latin1'), executable }] as const
  })
  return { directories: [], files: new Map(archived), skipped: [] }
}

function filesOf(archive: Archive): Files {
  return Object.fromEntries(
    [...archive.files]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([path, { bytes, executable }]) => {
        const text = bytes.toString('latin1')
        return [path, executable ? { text, executable } : text]
      }),
  )
}

/** Git's own diff of two trees, with the flags of `pnpm patch-commit` unless told otherwise. */
function gitDiff(before: Files, after: Files, flags: readonly string[] = PNPM): Buffer {
  for (const [side, files] of [
    ['a', before],
    ['b', after],
  ] as const) {
    rmSync(join(directory, side), { recursive: true, force: true })
    mkdirSync(join(directory, side))
    for (const [path, file] of Object.entries(files)) {
      const target = join(directory, side, path)
      mkdirSync(dirname(target), { recursive: true })
      writeFileSync(target, Buffer.from(typeof file === 'string' ? file : file.text, 'latin1'))
      if (typeof file !== 'string') chmodSync(target, 0o755)
    }
  }
  const { stdout } = spawnSync('git', ['-c', 'core.safecrlf=false', 'diff', '--no-index', ...flags, 'a', 'b'], {
    cwd: directory,
    env: { PATH: process.env['PATH'], HOME: directory, GIT_CONFIG_NOSYSTEM: '1' },
  })
  // Between directories git names the files a/a/x and b/b/x; clients take the directories out again.
  return Buffer.from(
    stdout
      .toString('latin1')
      .replaceAll(/(["\s])a\/a\//g, '$1a/')
      .replaceAll(/(["\s])b\/b\//g, '$1b/')
      .replaceAll(/(["\s])a\/b\//g, '$1a/')
      .replaceAll(/(["\s])b\/a\//g, '$1b/')
      .replaceAll(/^(rename|copy) (from|to) [ab]\//gm, '$1 $2 '),
    'latin1',
  )
}

const PNPM = ['--ignore-cr-at-eol', '--irreversible-delete', '--full-index', '--text', '--no-ext-diff', '--no-color']

function patched(before: Files, patch: Buffer | string): Files {
  return filesOf(applyPackagePatch(archiveOf(before), { path: PATH, bytes: Buffer.from(patch as string) }, LABEL))
}

function failure(before: Files, patch: Buffer | string): string {
  try {
    patched(before, patch)
  } catch (error) {
    expect(error).toBeInstanceOf(PolderError)
    expect((error as PolderError).code).toBe('PATCH_FAILED')
    expect((error as PolderError).details).toMatchObject({ path: PATH, spec: LABEL })
    return (error as PolderError).message.replace('the patch patches/foo.patch of foo@1.0.0 cannot be applied: ', '')
  }
  throw new Error('it was applied')
}

const TEN = Array.from({ length: 10 }, (_, index) => `line ${index + 1}\n`).join('')

describe('a patch that git made', () => {
  test.each<[string, Files, Files]>([
    ['changes lines', { 'a.js': TEN }, { 'a.js': TEN.replace('line 2\n', 'two\n').replace('line 9\n', '') }],
    ['adds a file in a new directory', { 'a.js': 'a\n' }, { 'a.js': 'a\n', 'lib/deep/b.js': 'b\n' }],
    ['adds an empty file', { 'a.js': 'a\n' }, { 'a.js': 'a\n', 'empty.js': '' }],
    ['adds a file that is executable', { 'a.js': 'a\n' }, { 'a.js': 'a\n', run: { text: 'r\n', executable: true } }],
    ['deletes a file', { 'a.js': 'a\n', 'b.js': TEN }, { 'a.js': 'a\n' }],
    ['makes a file executable', { 'a.js': 'a\n' }, { 'a.js': { text: 'a\n', executable: true } }],
    [
      'changes a file and takes its mode away',
      { 'a.js': { text: TEN, executable: true } },
      { 'a.js': TEN.replace('5', 'five') },
    ],
    ['moves a file and changes it', { 'a.js': TEN }, { 'lib/b.js': TEN.replace('5', 'five') }],
    ['adds the last newline', { 'a.js': 'a\nb' }, { 'a.js': 'a\nb\n' }],
    ['takes the last newline away', { 'a.js': 'a\nb\n' }, { 'a.js': 'a\nb' }],
    ['changes a last line without newline', { 'a.js': 'a\nb' }, { 'a.js': 'a\nc' }],
    ['has carriage returns in what it changes', { 'a.js': 'a\r\nb\r\nc\r\n' }, { 'a.js': 'a\r\nB\r\nc\r\n' }],
    ['is of a file that is no UTF-8', { 'a.js': 'caf\xe9\nb\n' }, { 'a.js': 'caf\xe9\nc\n' }],
    ['names a file that git quotes', { '\u00e4 \u201cb\u201d.js': 'a\n' }, { '\u00e4 \u201cb\u201d.js': 'b\n' }],
    ['names a file with a blank', { 'a b/c d.js': 'a\n' }, { 'a b/c d.js': 'b\n' }],
    ['has lines that look like headers', { 'a.js': '-- x\n++ y\n' }, { 'a.js': '-- z\n++ y\n++ @\n' }],
  ])('%s', (title, before, after) => {
    for (const flags of [PNPM, ['--text', '--find-renames'], ['--text', '--no-renames', '-U1']]) {
      const patch = gitDiff(before, after, flags)
      // For pnpm's flags, a newline at the end is white space like a carriage return.
      if (flags === PNPM && patch.length === 0 && title.includes('newline')) continue
      expect(patched(before, patch)).toEqual(after)
    }
  })

  test('a change of line ends is kept only where the diff has it', () => {
    const [before, after] = [{ 'a.js': 'a\r\nb\r\nc\r\n' }, { 'a.js': 'a\nB\nc\n' }]
    // pnpm's flags leave the carriage returns out of the context, which then is not what the file has.
    expect(gitDiff(before, after).toString()).toContain('\n a\n-b\r\n+B\n c\n')
    expect(patched(before, gitDiff(before, after))).toEqual({ 'a.js': 'a\r\nB\nc\r\n' })
    expect(patched(before, gitDiff(before, after, ['--text']))).toEqual(after)
  })

  test('that was checked out with carriage returns is what it was', () => {
    const [before, after] = [
      { 'a.js': TEN, 'b.js': 'x\n' },
      { 'a.js': TEN.replace('5', 'five'), 'c.js': 'new\n' },
    ]
    const patch = gitDiff(before, after, ['--text', '--no-renames']).toString('latin1')
    expect(patched(before, patch.replaceAll('\n', '\r\n'))).toEqual(after)
  })

  test('whatever was changed, it makes the one tree out of the other', { timeout: 60_000 }, () => {
    const lines = fc.array(fc.constantFrom('a', 'b', 'c', '', ' x', '-y', '+z', '@@ q', 'crlf\r'), { maxLength: 12 })
    const text = fc.tuple(lines, fc.boolean()).map(([list, newline]) => list.join('\n') + (newline ? '\n' : ''))
    const content = fc.oneof(
      text,
      text.map((inner) => ({ text: inner, executable: true as const })),
    )
    const tree = fc.dictionary(fc.constantFrom('a.js', 'b.js', 'd/a.js', 'd/e/b.js', 'f g.js'), content, {
      minKeys: 1,
      noNullPrototype: true,
    })
    fc.assert(
      fc.property(tree, tree, (before, after) => {
        const patch = gitDiff(before, after, ['--text', '--find-renames'])
        fc.pre(patch.length > 0)
        const sorted = Object.fromEntries(Object.entries(after).sort(([a], [b]) => (a < b ? -1 : 1)))
        expect(patched(before, patch)).toEqual(sorted)
      }),
      { numRuns: 150 },
    )
  })
})

describe('a patch that moved', () => {
  const before = { 'a.js': TEN }
  const patch = gitDiffText({ 'a.js': TEN }, { 'a.js': TEN.replace('line 6\n', 'six\n') })

  test('is applied where its lines are', () => {
    const longer = { 'a.js': `first\nsecond\n${TEN}` }
    expect(patched(longer, patch())).toEqual({ 'a.js': longer['a.js'].replace('line 6\n', 'six\n') })
  })

  test('is refused where they are not, with the hunk', () => {
    expect(failure({ 'a.js': TEN.replace('line 7', 'seven') }, patch())).toBe(
      'a.js, hunk 1 of 1 (@@ -3,7 +3,7 @@): these lines are not in the package as the patch has them',
    )
    expect(patched(before, patch())).not.toEqual(before)
  })

  test('names the hunk that fails and not the first', () => {
    const long = TEN + TEN.replaceAll('line', 'row')
    const two = gitDiffText(
      { 'a.js': long },
      { 'a.js': long.replace('line 1\n', 'one\n').replace('row 9\n', 'nine\n') },
    )
    expect(failure({ 'a.js': long.replace('row 9', 'gone') }, two())).toMatch(/^a\.js, hunk 2 of 2 \(@@ -16,5/)
  })
})

/** When the test runs: the directory is not there before. */
function gitDiffText(before: Files, after: Files): () => Buffer {
  return () => gitDiff(before, after)
}

describe('a patch is refused that', () => {
  const before = { 'a.js': 'a\n', 'b.js': 'b\n' }
  const section = (from: string, to: string): string =>
    `diff --git ${from} ${to}\n--- ${from}\n+++ ${to}\n@@ -1 +1 @@\n-a\n+b\n`

  test.each([
    [
      'leaves the package',
      section('a/../../x.js', 'b/../../x.js'),
      '"a/../../x.js": the path leads out of the package',
    ],
    [
      'leaves it in quotes',
      section('"a/..\\057x.js"', '"b/..\\057x.js"'),
      '"a/../x.js": the path leads out of the package',
    ],
    ['has an absolute path', section('/etc/passwd', '/etc/passwd'), '"/etc/passwd": it is no path below a/'],
    ['has no prefixes', section('a.js', 'a.js'), '"a.js": it is no path below a/'],
    [
      'moves a file out',
      'diff --git a/a.js b/x\nrename from a.js\nrename to ../x\n',
      '"b/../x": the path leads out of the package',
    ],
    ['changes a file that is not there', section('a/c.js', 'b/c.js'), 'c.js: the package has no such file'],
    [
      'adds what is there',
      'diff --git a/a.js b/a.js\nnew file mode 100644\n--- /dev/null\n+++ b/a.js\n@@ -0,0 +1 @@\n+x\n',
      'a.js: the package has such a file already',
    ],
    [
      'moves a file onto another',
      'diff --git a/a.js b/b.js\nrename from a.js\nrename to b.js\n',
      'b.js: the package has such a file already',
    ],
    [
      'makes a link',
      'diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n',
      'l: it would become something else than a file (mode 120000)',
    ],
    [
      'deletes more than it knows',
      'diff --git a/b.js b/b.js\ndeleted file mode 100644\n--- a/b.js\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n',
      'b.js, hunk 1 of 1 (@@ -1,1 +1,0 @@): these lines are not in the package as the patch has them',
    ],
    [
      'makes two names that some disks take for one',
      'diff --git a/A.js b/A.js\nnew file mode 100644\n--- /dev/null\n+++ b/A.js\n@@ -0,0 +1 @@\n+x\n',
      'A.js: the path cannot be told from "a.js" on a file system that ignores case or composition',
    ],
    [
      'makes a file of a directory',
      'diff --git a/a.js/x b/a.js/x\nnew file mode 100644\n--- /dev/null\n+++ b/a.js/x\n@@ -0,0 +1 @@\n+x\n',
      'a.js: the path is a file, but also a directory',
    ],
    [
      'is binary',
      'diff --git a/a.js b/a.js\nindex 1..2 100644\nBinary files a/a.js and b/a.js differ\n',
      'a.js: only text can be patched',
    ],
    [
      'has a binary part',
      'diff --git a/a.js b/a.js\nGIT binary patch\nliteral 1\nx\n',
      'only text can be patched, and it has a binary part',
    ],
    ['is empty', '', 'it changes nothing'],
    ['is a page of an error', '<html>\n404\n</html>\n', 'it changes nothing'],
    [
      'was cut off',
      section('a/a.js', 'b/a.js').slice(0, -3),
      'it is no unified diff (Hunk at line 4 contained invalid line )',
    ],
    ['has a merge in it', `${section('a/a.js', 'b/a.js')}<<<<<<< HEAD\n+x\n`, 'its line 8 belongs to no hunk'],
    ['has a damaged header', section('a/a.js', 'b/a.js').replace('@@ -1', '@ -1'), 'its line 4 belongs to no hunk'],
    [
      'counts its lines wrong',
      section('a/a.js', 'b/a.js').replace('+1 @@', '+1,2 @@'),
      expect.stringContaining('it is no unified diff'),
    ],
  ])('%s', (_, patch, message) => {
    expect(failure(before, patch)).toEqual(message)
  })
})

describe('a patched tree', () => {
  const entries = [
    { path: 'package/package.json', data: '{"name":"foo","version":"1.0.0","scripts":{"install":"x"}}\n' },
    { path: 'package/a.js', data: 'a\n' },
  ]
  const bytes = Buffer.from('diff --git a/a.js b/a.js\n--- a/a.js\n+++ b/a.js\n@@ -1 +1 @@\n-a\n+b\n')
  const HASH = 'ab'.repeat(32)

  test('stands beside the tree of its artifact, and is verified as any other', async () => {
    const store = temporaryStore()
    const integrity = await put(store, tgz(entries))
    const id = patchedTreeId(integrity, HASH)
    expect(id).toMatch(/^[0-9a-f]{40}$/)
    await unpackTrees(store, [
      { id: treeId(integrity), integrity, label: LABEL, bin: {} },
      { id, integrity, label: LABEL, bin: {}, patch: { path: PATH, bytes } },
    ])
    expect(readFileSync(join(readTree(store, treeId(integrity)).path, 'a.js'), 'utf8')).toBe('a\n')
    expect(readFileSync(join(readTree(store, id).path, 'a.js'), 'utf8')).toBe('b\n')
    expect(await verifyTree(store, id)).toEqual([])
  })

  test('is not there at all if its patch fails, and the others are', async () => {
    const store = temporaryStore()
    const integrity = await put(store, tgz(entries))
    const id = patchedTreeId(integrity, HASH)
    const failing = { path: PATH, bytes: Buffer.from(bytes.toString().replace('-a', '-x')) }
    await expect(
      unpackTrees(store, [
        { id, integrity, label: LABEL, bin: {}, patch: failing },
        { id: treeId(integrity), integrity, label: LABEL, bin: {} },
      ]),
    ).rejects.toMatchObject({ code: 'PATCH_FAILED' })
    expect([hasTree(store, id), hasTree(store, treeId(integrity))]).toEqual([false, true])
    expect(existsSync(join(store.home, 'trees', id))).toBe(false)
  })

  test('has the manifest that the patch leaves', async () => {
    const manifest = Buffer.from(
      'diff --git a/package.json b/package.json\n--- a/package.json\n+++ b/package.json\n@@ -1 +1 @@\n' +
        `-${entries[0]?.data ?? ''}+{"name":"foo","version":"1.0.0","scripts":{}}\n`,
    )
    const archive = applyPackagePatch(await openArchive(tgz(entries), LABEL), { path: PATH, bytes: manifest }, LABEL)
    const found = archiveManifest(archive, LABEL)
    expect(Object.keys(found.manifest.scripts)).toEqual([])
  })
})

test('git is there, without which most of these tests would be about nothing', () => {
  expect(execFileSync('git', ['--version'], { encoding: 'utf8' })).toMatch(/^git version/)
})
