import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const DOCUMENTS = globSync(['*.md', 'docs/*.md', 'packages/*/README.md', 'examples/*/README.md'], { cwd: ROOT }).sort()

const proseOf = (path: string): string => readFileSync(join(ROOT, path), 'utf8').replaceAll(/^```[^]*?^```$/gm, '')

/** What a heading is called by in a link. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

test.each(DOCUMENTS)('every link of %s leads to a file or heading that is there', (document) => {
  const broken = [...proseOf(document).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => !/^https?:/.test(link))
    .filter((link) => {
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? document : join(dirname(document), path)
      if (!existsSync(join(ROOT, target))) return true
      const headings = anchor === undefined ? [] : [...proseOf(target).matchAll(/^#+ (.*)$/gm)]
      return anchor !== undefined && !headings.some(([, heading = '']) => anchorOf(heading) === anchor)
    })
  expect(broken).toEqual([])
})

test.each(DOCUMENTS.filter((path) => path.startsWith('packages/')))('the files that %s lists are there', (document) => {
  const [files = ''] = [...proseOf(document).matchAll(/^\| file \|[^]*?(?=\n\n|$(?![^]))/gm)].at(-1) ?? []
  // Those in a folder, with or without the ending.
  const named = [...files.matchAll(/^\| `([\w-]+(?:\/[\w.-]+)+)`/gm)].map(([, name = '']) => name)
  const directory = join(ROOT, dirname(document))
  const isThere = (name: string): boolean =>
    ['', 'src/'].some((below) => ['', '.ts'].some((ending) => existsSync(join(directory, below + name + ending))))
  expect(named.filter((name) => !isThere(name))).toEqual([])
})
