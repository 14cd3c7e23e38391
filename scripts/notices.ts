import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { compareText } from '../packages/spec/src/index.ts'

const TEXTS = /^(?:licen[cs]es?|copying|notices?|third[-_ ]?party[-_ ]?notices?)(?:[-.].*)?$/i
const RULE = '-'.repeat(80)

/**
 * The licences of all packages that these modules are of, and whatever notices they bring, as one text. The same
 * modules give the same text, in whatever order and wherever they are installed.
 * @param modules absolute paths; those outside of a `node_modules` are ours
 * @throws Error naming a package that says nothing of its licence
 */
export function thirdPartyNotices(modules: Iterable<string>): string {
  const packages = new Map<string, Notice>()
  for (const module of modules) {
    if (!module.includes('/node_modules/')) continue
    const notice = noticeOf(module)
    packages.set(`${notice.name} ${notice.version}`, notice)
  }
  const sections = [...packages.values()]
    .sort((a, b) => compareText(a.name, b.name) || compareText(a.version, b.version))
    .map(({ name, version, licence, author, texts }) => {
      const said = [licence, author].filter((part) => part !== '').join(', ')
      const body = texts.length === 0 ? [`Its package brings no text of its licence, ${licence}.`] : texts
      return [
        RULE,
        `${name} ${version}${said === '' ? '' : ` (${said})`}`,
        RULE,
        '',
        body.join(`\n\n${RULE}\n\n`),
      ].join('\n')
    })
  const intro = `polder includes parts of ${sections.length} other packages. These are their licences and notices.`
  return `${[intro, ...sections].join('\n\n')}\n`
}

interface Notice {
  readonly name: string
  readonly version: string
  /** As its package.json names it; empty if only a text does. */
  readonly licence: string
  readonly author: string
  readonly texts: readonly string[]
}

/** Of the package that a module is of: the nearest directory with a package.json that has a name and a version. */
function noticeOf(module: string): Notice {
  for (let directory = dirname(module); !directory.endsWith('/node_modules'); directory = dirname(directory)) {
    const manifest = readManifest(directory)
    if (manifest === undefined) continue
    const { name, version, license, author } = manifest
    if (typeof name !== 'string' || typeof version !== 'string') continue
    const texts = readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isFile() && TEXTS.test(entry.name))
      .map((entry) => entry.name)
      .sort(compareText)
      .map((file) => readFileSync(join(directory, file), 'utf8').replaceAll('\r\n', '\n').trim())
    const licence = typeof license === 'string' ? license : ''
    if (licence === '' && texts.length === 0) throw new Error(`${name} ${version} does not say what its licence is`)
    return { name, version, licence, author: personOf(author), texts }
  }
  throw new Error(`${module} is of no package`)
}

function readManifest(directory: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as Readonly<Record<string, unknown>>
  } catch {
    return undefined
  }
}

/** The name alone, from either form that npm knows; no addresses. */
function personOf(author: unknown): string {
  const name = typeof author === 'object' && author !== null && 'name' in author ? author.name : author
  return typeof name !== 'string' || /^\S+@\S+$/.test(name) ? '' : name.replace(/\s*[(<].*$/, '').trim()
}
