import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'

import { LIMITS } from '../src/archives/archive-paths.ts'
import { openArchive, readArchiveManifest } from '../src/archives/archive.ts'
import { block, longName, pax, tar, tgz, type Entry } from './support/tar-writer.ts'

const file = (path: string, data = 'x'): Entry => ({ path, data })

async function refusal(bytes: Buffer): Promise<string> {
  try {
    await openArchive(bytes, 'evil@1.0.0')
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return `${code}: ${message.replace('the archive of evil@1.0.0 is refused: ', '')}`
  }
  return 'accepted'
}

async function contents(bytes: Buffer): Promise<Record<string, string>> {
  const { files } = await openArchive(bytes, 'foo@1.0.0')
  return Object.fromEntries([...files].map(([path, { bytes: data }]) => [path, data.toString()]))
}

describe('what packages hold', () => {
  test('the first segment is the root, whatever its name, and may differ from entry to entry', async () => {
    const archive = tgz([file('package/a'), file('react-v1/lib/b'), file('./c'), file('node/./d//e')])
    expect(await contents(archive)).toEqual({ a: 'x', 'lib/b': 'x', c: 'x', 'd/e': 'x' })
    expect((await openArchive(archive, 'foo')).directories).toEqual(['lib', 'd'])
  })

  test('an archive that is not compressed is read', async () => {
    expect(await contents(tar([file('package/a')]))).toEqual({ a: 'x' })
  })

  test('an archive in several gzip members is read whole', async () => {
    const bytes = tar([file('package/a', 'a'.repeat(3000)), file('package/b')])
    expect(await contents(Buffer.concat([gzipSync(bytes.subarray(0, 700)), gzipSync(bytes.subarray(700))]))).toEqual({
      a: 'a'.repeat(3000),
      b: 'x',
    })
  })

  test('long names are read in their pax and their GNU form', async () => {
    const path = `package/${'d/'.repeat(50)}${'f'.repeat(120)}`
    const short = path.slice('package/'.length)
    expect(await contents(tgz([pax({ path }), file('package/short')]))).toEqual({ [short]: 'x' })
    expect(await contents(tgz([longName(path), file('package/short')]))).toEqual({ [short]: 'x' })
  })

  test('a global pax header, as git archives have it, changes nothing', async () => {
    expect(await contents(tgz([pax({ comment: 'abc' }, 'g'), file('repo-1/a')]))).toEqual({ a: 'x' })
  })

  test('bundled dependencies and names that Windows reserves are ordinary files', async () => {
    expect(
      Object.keys(
        await contents(tgz([file('package/node_modules/b/index.js'), file('package/aux.txt'), file('package/con')])),
      ),
    ).toEqual(['node_modules/b/index.js', 'aux.txt', 'con'])
  })

  test('a file that is there twice with the same contents counts once', async () => {
    expect(await contents(tgz([file('package/a'), file('package/a')]))).toEqual({ a: 'x' })
  })

  test('only the owner’s x bit matters of a mode, and the sticky bit is dropped', async () => {
    const { files } = await openArchive(
      tgz([
        { ...file('p/run'), mode: 0o1744 },
        { ...file('p/data'), mode: 0o677 },
      ]),
      'foo',
    )
    expect([...files].map(([path, { executable }]) => [path, executable])).toEqual([
      ['run', true],
      ['data', false],
    ])
  })

  test('a directory’s mode, which older clients recorded with its setgid bit, does not matter', async () => {
    expect(await contents(tgz([{ path: 'package/lib/', type: '5', mode: 0o2755 }, file('package/lib/a')]))).toEqual({
      'lib/a': 'x',
    })
  })

  test('links inside the package and files beside its root are left out, and named', async () => {
    const archive = await openArchive(
      tgz([
        file('package/a/b'),
        { path: 'package/a/l', type: '2', link: '../a/b' },
        { path: 'package/h', type: '1', link: 'package/a/b' },
        file('._package'),
      ]),
      'foo',
    )
    expect([...archive.files.keys()]).toEqual(['a/b'])
    expect(archive.skipped).toEqual(['a/l', 'h', '._package'])
  })

  test('a name is read up to its NUL, as every client does', async () => {
    expect(await contents(tgz([file('package/a\0b')]))).toEqual({ a: 'x' })
  })

  test('a name may be what JavaScript objects are made of', async () => {
    const { files } = await openArchive(tgz([file('package/__proto__'), file('package/constructor')]), 'foo')
    expect([...files.keys()]).toEqual(['__proto__', 'constructor'])
    expect(({} as { x?: unknown }).x).toBeUndefined()
  })
})

describe('the manifest of an archive', () => {
  test('it is read from whatever the root is called', async () => {
    const archive = tgz([
      file('foo-v1/package.json', '{"name":"foo","version":"1.0.0","bin":"./cli.js"}'),
      file('foo-v1/binding.gyp'),
    ])
    const { manifest, hasBindingGyp } = await readArchiveManifest(archive, 'foo@1.0.0')
    expect({ ...manifest.bin }).toEqual({ foo: 'cli.js' })
    expect(hasBindingGyp).toBe(true)
  })

  test('an archive without one is refused', async () => {
    await expect(readArchiveManifest(tgz([file('package/index.js')]), 'foo@1.0.0')).rejects.toThrow(
      'the archive of foo@1.0.0 is refused: it holds no package.json',
    )
  })

  test('a broken one is the package’s error', async () => {
    await expect(readArchiveManifest(tgz([file('package/package.json', '{')]), 'foo@1.0.0')).rejects.toThrow(
      /^package.json of foo@1.0.0 is not JSON/,
    )
  })
})

describe('what is refused', () => {
  const cases: readonly (readonly [string, readonly Entry[], string])[] = [
    ['a path that climbs out', [file('package/../../pwn')], 'its entry "package/../../pwn" leads out of the package'],
    [
      'a path that climbs and comes back',
      [file('package/a/../b')],
      'its entry "package/a/../b" leads out of the package',
    ],
    ['a root that is the parent directory', [file('../a')], 'its entry "../a" leads out of the package'],
    ['an absolute path', [file('/etc/pwn')], 'its entry "/etc/pwn" is an absolute path'],
    [
      'an absolute path in a pax header',
      [pax({ path: '/etc/pwn' }), file('package/a')],
      'its entry "/etc/pwn" is an absolute path',
    ],
    [
      'an absolute path in a GNU long name',
      [longName('/etc/pwn'), file('package/a')],
      'its entry "/etc/pwn" is an absolute path',
    ],
    ['a backslash', [file('package\\..\\pwn')], 'its entry "package\\\\..\\\\pwn" has a backslash'],
    ['a drive letter', [file('C:pwn')], 'its entry "C:pwn" has a drive letter'],
    ['a drive letter below the root', [file('package/C:pwn')], 'its entry "package/C:pwn" has a drive letter'],
    ['a control character', [file('package/a\u001b[2J')], 'its entry "package/a\\u001b[2J" has a control character'],
    [
      'a symbolic link out of the root',
      [{ path: 'package/l', type: '2', link: '../../' }],
      'its entry "package/l" is a link out of the package, to "../../"',
    ],
    [
      'an absolute symbolic link',
      [{ path: 'package/l', type: '2', link: '/etc/passwd' }],
      'its entry "package/l" is a link out of the package, to "/etc/passwd"',
    ],
    [
      'a symbolic link in the place of the root',
      [{ path: 'package', type: '2', link: 'x' }],
      'its entry "package" is a link out of the package, to "x"',
    ],
    [
      'a hard link out of the root',
      [{ path: 'package/h', type: '1', link: '../secret' }],
      'its entry "package/h" is a link out of the package, to "../secret"',
    ],
    [
      'an absolute hard link',
      [{ path: 'package/h', type: '1', link: '/etc/shadow' }],
      'its entry "package/h" is a link out of the package, to "/etc/shadow"',
    ],
    [
      'a file through a link',
      [{ path: 'package/l', type: '2', link: '.' }, file('package/l/pwn')],
      'its entry "package/l/pwn" is a directory, but "l" is a file',
    ],
    [
      'a file through a link of another case',
      [{ path: 'package/L', type: '2', link: '.' }, file('package/l/pwn')],
      'its entry "package/l/pwn" cannot be told from "L" on a file system that ignores case or composition',
    ],
    [
      'a link in the place of a directory',
      [file('package/a/b'), { path: 'package/a', type: '2', link: '.' }],
      'its entry "package/a" is a file, but also a directory',
    ],
    [
      'a link in the place of a file',
      [file('package/a'), { path: 'package/a', type: '2', link: 'b' }],
      'its entry "package/a" is there twice, once as a link',
    ],
    [
      'a file in the place of a link',
      [{ path: 'package/a', type: '2', link: 'b' }, file('package/a')],
      'its entry "package/a" is there twice, once as a link',
    ],
    [
      'a file twice',
      [file('package/f', 'one'), file('package/f', 'two')],
      'its entry "package/f" is there twice, with different contents',
    ],
    [
      'a file as a directory',
      [file('package/a'), file('package/a/b')],
      'its entry "package/a/b" is a directory, but "a" is a file',
    ],
    [
      'a directory entry over a file',
      [file('package/a'), { path: 'package/a/', type: '5' }],
      'its entry "package/a/" is a directory, but "a" is a file',
    ],
    [
      'a directory as a file',
      [file('package/a/b'), file('package/a')],
      'its entry "package/a" is a file, but also a directory',
    ],
    [
      'names that differ in case',
      [file('package/README'), file('package/readme')],
      'its entry "package/readme" cannot be told from "README" on a file system that ignores case or composition',
    ],
    [
      'directories that differ in case',
      [file('package/Lib/a'), file('package/lib/b')],
      'its entry "package/lib/b" cannot be told from "Lib" on a file system that ignores case or composition',
    ],
    [
      'names that differ in composition',
      [file('package/e\u0301'), file('package/\u00e9')],
      'its entry "package/\u00e9" cannot be told from "e\u0301" on a file system that ignores case or composition',
    ],
    [
      'names that fold to the same letters',
      [file('package/\ufb00'), file('package/FF')],
      'its entry "package/FF" cannot be told from "\ufb00" on a file system that ignores case or composition',
    ],
    [
      'a character device',
      [{ path: 'package/d', type: '3' }],
      'its entry "package/d" is a CharacterDevice, which no package needs',
    ],
    [
      'a block device',
      [{ path: 'package/d', type: '4' }],
      'its entry "package/d" is a BlockDevice, which no package needs',
    ],
    ['a fifo', [{ path: 'package/p', type: '6' }], 'its entry "package/p" is a FIFO, which no package needs'],
    ['an unknown type', [{ path: 'package/v', type: 'V' }], 'its entry "package/v" is of an unknown type (V)'],
    [
      'setuid',
      [{ ...file('package/s'), mode: 0o4755 }],
      'its entry "package/s" would run with its owner\'s rights (mode 4755)',
    ],
    [
      'setgid',
      [{ ...file('package/s'), mode: 0o2755 }],
      'its entry "package/s" would run with its owner\'s rights (mode 2755)',
    ],
    ['a deep path', [pax({ path: `package/${'d/'.repeat(64)}f` }), file('a')], 'is more than 64 directories deep'],
    [
      'a long path',
      [
        pax({
          path: `package/${'directory/'.repeat(20)}${'x/'.repeat(40)}${'y'.repeat(255)}/${'y'.repeat(255)}/${'y'.repeat(255)}/${'z'.repeat(200)}`,
        }),
        file('a'),
      ],
      'is longer than 1024 bytes',
    ],
    ['a long name', [pax({ path: `package/${'é'.repeat(128)}` }), file('a')], 'has a name longer than 255 bytes'],
    [
      'a header of more than a megabyte',
      [pax({ comment: 'c'.repeat(1024 * 1024 + 1) }), file('package/a')],
      'its entry "PaxHeader/x" is a header of more than a megabyte',
    ],
    [
      'a wrong checksum',
      [{ ...file('package/a'), checksum: 1 }],
      'it is no well-formed tar archive (TAR_ENTRY_INVALID: checksum failure)',
    ],
  ]

  test.each(cases)('%s', async (_, entries, rule) => {
    const message = await refusal(tgz(entries))
    expect(message.startsWith('ARCHIVE_REFUSED: ')).toBe(true)
    expect(message.endsWith(rule), message).toBe(true)
  })

  test('an archive that is cut at any place inside its data ends early', async () => {
    const bytes = tar([file('package/a', 'a'.repeat(2000)), file('package/b', 'b'.repeat(2000))])
    for (const end of [513, 600, 1500, 2000, 3600])
      expect(await refusal(bytes.subarray(0, end))).toBe('ARCHIVE_REFUSED: it ends early, inside a file')
    for (const end of [3000, 3071])
      expect(await refusal(bytes.subarray(0, end))).toBe('ARCHIVE_REFUSED: it ends early, inside a header')
  })

  test('compressed data that is cut anywhere ends early', async () => {
    const bytes = tgz([file('package/a', 'some text that is not repeated much'), file('package/b')])
    for (let end = 18; end < bytes.length; end += 7)
      expect(await refusal(bytes.subarray(0, end))).toBe('ARCHIVE_REFUSED: it ends early, inside the compressed data')
  })

  test('a flipped bit in the compressed data is noticed', async () => {
    const bytes = tgz([file('package/a', 'text')])
    const flipped = Buffer.from(bytes)
    flipped.writeUInt8(flipped.readUInt8(flipped.length - 6) ^ 1, flipped.length - 6)
    expect(await refusal(flipped)).toMatch(/^ARCHIVE_REFUSED: it is no well-formed gzip data/)
  })

  test('what is no archive at all is refused', async () => {
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from('<html>not found</html>'),
      Buffer.alloc(2048, 'x'),
      gzipSync(''),
    ]) {
      expect(await refusal(bytes)).toMatch(
        /^ARCHIVE_REFUSED: it (is no well-formed tar archive|ends early, inside a header)/,
      )
    }
  })

  test('a gzip bomb is refused before it is unpacked', async () => {
    const bomb = gzipSync(Buffer.alloc(LIMITS.ratioFloor + 1024 * 1024))
    const before = process.memoryUsage().arrayBuffers
    expect(await refusal(bomb)).toBe(`ARCHIVE_REFUSED: it unpacks to more than ${LIMITS.ratioFloor} bytes`)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 * LIMITS.ratioFloor)
  })

  test('an entry that announces more than there is ends early', async () => {
    expect(await refusal(tgz([{ ...file('package/a'), size: 2 ** 33 - 1 }]))).toBe(
      'ARCHIVE_REFUSED: it ends early, inside a file',
    )
  })

  test('more entries than any package has are refused', async () => {
    const entry = block({ path: 'package/d/', type: '5' })
    const many = Buffer.alloc(entry.length * (LIMITS.entries + 1), entry)
    expect(await refusal(many)).toBe(`ARCHIVE_REFUSED: it has more than ${LIMITS.entries} entries`)
  })
})
