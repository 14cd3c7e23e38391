import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { expect, test } from 'vitest'

import { thirdPartyNotices } from '../../scripts/notices.ts'
import { temporaryDirectory } from '../support/cli.ts'

/** A module of a package with these files. */
function module(root: string, name: string, manifest: object, files: Readonly<Record<string, string>> = {}): string {
  const directory = join(root, 'node_modules', name)
  mkdirSync(join(directory, 'lib'), { recursive: true })
  // As packages have it whose modules are of two kinds.
  const all = {
    ...files,
    'package.json': JSON.stringify({ name, ...manifest }),
    'lib/package.json': '{"type":"module"}',
  }
  for (const [path, text] of Object.entries(all)) writeFileSync(join(directory, path), text)
  return join(directory, 'lib/index.js')
}

test('the notices are the texts that packages bring, sorted, the same wherever and in whatever order', () => {
  const notices = ['one', 'two'].map((place) => {
    const root = temporaryDirectory(place)
    const modules = [
      module(
        root,
        'gate',
        { version: '2.0.0', license: 'MIT', author: 'A. Keeper <keeper@gate.example>' },
        {
          'LICENSE.md': 'Do as you like.\r\nNo warranty.\n',
          NOTICE: 'Made at the gate.',
          'README.md': 'not this',
        },
      ),
      module(root, '@port/bell', { version: '1.0.0', license: 'ISC', author: { name: 'B', url: 'x' } }),
      join(root, 'packages/ours.ts'),
    ]
    return thirdPartyNotices(place === 'one' ? modules : modules.toReversed())
  })
  const rule = '-'.repeat(80)
  expect(notices[0]).toBe(
    `polder includes parts of 2 other packages. These are their licences and notices.

${rule}
@port/bell 1.0.0 (ISC, B)
${rule}

Its package brings no text of its licence, ISC.

${rule}
gate 2.0.0 (MIT, A. Keeper)
${rule}

Do as you like.
No warranty.

${rule}

Made at the gate.
`,
  )
  expect(notices[1]).toBe(notices[0])
})

test('a package that says nothing of its licence is not included without a word', () => {
  const root = temporaryDirectory('nothing')
  const silent = module(root, 'silent', { version: '1.0.0' })
  expect(() => thirdPartyNotices([silent])).toThrow('silent 1.0.0 does not say what its licence is')
  const worded = module(root, 'worded', { version: '1.0.0' }, { LICENCE: 'As you like.' })
  expect(thirdPartyNotices([worded])).toContain('worded 1.0.0\n')
})
