import { type Additions, compareText, isPackageName, PolderError } from '@polder/spec'

import { prebuilt, type Tool, TOOLS } from './tools.ts'

type PinnedFiles = Additions['files']

const PREFIX = '/-/files/'

/**
 * Where an index serves a file: `/-/files/<host>/<path>`, with the query if there is one. The same whatever the scheme
 * of the URL is, and for every way to write it.
 *
 *     https://host.example/dist/v1/a%2Bb.zip   /-/files/host.example/dist/v1/a+b.zip
 *
 * @throws PolderError `SOURCE_UNSUPPORTED` for what is no http or https URL
 */
export function filePath(url: string): string {
  const parsed = parseFileUrl(url)
  return canonical(`${PREFIX}${parsed.host}${parsed.pathname}${parsed.search}`)
}

/**
 * The environment variables that make known tools ask an index for the pinned files instead of the host that they
 * would ask. If the files of one tool have several bases, which one variable cannot say, the first in order counts.
 * @param baseUrl of the index
 */
export function toolEnvironment(files: PinnedFiles, baseUrl: string): Record<string, string> {
  const environment: Record<string, string> = {}
  for (const [url, file] of Object.entries(files).sort(([a], [b]) => compareText(a, b))) {
    for (const { variable, base } of redirections(url, file.for)) {
      environment[variable] ??= `${baseUrl.replace(/\/+$/, '')}${base}`
    }
  }
  return Object.fromEntries(Object.entries(environment).sort(([a], [b]) => compareText(a, b)))
}

/** One variable of a tool, and the path on the index that it has to lead to. */
export interface Redirection {
  readonly variable: string
  readonly base: string
}

/**
 * Which variables lead to a file.
 * @param tool as the user named it; recognised by the shape of the URL where it is undefined, and if that fits no tool
 *   or several alike, nothing is redirected
 * @throws PolderError `USAGE` if the named tool never asks for such a URL
 */
export function redirections(url: string, tool: string | undefined): readonly Redirection[] {
  const target = filePath(url)
  const own = /^(\w+)=(.*)$/.exec(tool ?? '')
  if (own !== null) return [{ variable: ownVariable(own[1] ?? ''), base: ownBase(url, own[2] ?? '') }]
  const found = tool === undefined ? recognised(target) : named(url, target, tool)
  if (found === undefined) return []
  const base = target.slice(0, found.match.index)
  return found.tool.variables(found.match).map((variable) => ({
    variable,
    base: found.tool.slash === true ? `${base}/` : base,
  }))
}

/** The tool that asks for a file; undefined if that is not known, or it is a variable that leads to it. */
export function toolOf(url: string, tool: string | undefined): string | undefined {
  if (tool?.includes('=') === true) return undefined
  const target = filePath(url)
  return (tool === undefined ? recognised(target) : named(url, target, tool))?.tool.name
}

/** The URLs that the tool of this one will ask for besides. */
export function companions(url: string, tool: string | undefined): readonly string[] {
  if (tool?.includes('=') === true) return []
  const target = filePath(url)
  const found = tool === undefined ? recognised(target) : named(url, target, tool)
  return (found?.tool.also?.(found.match) ?? []).map((path) => new URL(path, url).href)
}

interface Recognised {
  readonly tool: Tool
  readonly match: RegExpExecArray
}

/** The tool whose pattern covers most of the path. What prebuilt binaries look like is only asked last. */
function recognised(target: string): Recognised | undefined {
  const found = TOOLS.flatMap((tool): Recognised[] => {
    const match = tool.tail.exec(target)
    return match === null ? [] : [{ tool, match }]
  }).sort((a, b) => a.match.index - b.match.index)
  const [best, second] = found
  if (best !== undefined) return second?.match.index === best.match.index ? undefined : best
  const tool = prebuilt()
  const match = tool.tail.exec(target)
  return match === null ? undefined : { tool, match }
}

function named(url: string, target: string, name: string): Recognised {
  const known = TOOLS.find((tool) => tool.name === name)
  if (known === undefined && !isPackageName(name)) {
    throw new PolderError('USAGE', `${JSON.stringify(name)} is neither a tool nor a package`, {
      found: name,
      hint: `the tools are ${TOOLS.map((tool) => tool.name).join(', ')}; any package with prebuilt binaries; or VARIABLE=BASE`,
    })
  }
  const tool = known ?? prebuilt(name)
  const match = tool.tail.exec(target)
  if (match !== null) return { tool, match }
  throw new PolderError('USAGE', `${name} never asks for a URL that ends like ${url}`, {
    found: url,
    wanted: String(tool.tail),
    hint: 'see docs/bundles.md, or say which variable it reads: --for VARIABLE=BASE',
  })
}

/** A variable that takes a URL: no lock may say what `PATH` or `NODE_OPTIONS` is. */
function ownVariable(name: string): string {
  if (/^[A-Za-z]\w*(?:MIRROR|HOST|URL|BASE|CDN|SITE)$/i.test(name)) return name
  throw new PolderError('USAGE', `${name} is no variable that says where to fetch from`, {
    found: name,
    wanted: 'a name that ends in MIRROR, HOST, URL, BASE, CDN or SITE',
  })
}

function ownBase(url: string, base: string): string {
  const path = filePath(base)
  if (filePath(url).startsWith(path)) return path
  throw new PolderError('USAGE', `${url} does not begin with ${base}`, { found: url, wanted: base })
}

function parseFileUrl(url: string): URL {
  const parsed = URL.parse(url)
  if (parsed !== null && /^https?:$/.test(parsed.protocol)) return parsed
  throw new PolderError('SOURCE_UNSUPPORTED', `${url} is no http or https URL`, { found: url })
}

// What may stand in a path segment as it is (RFC 3986, pchar) besides what encodeURIComponent leaves alone.
const PLAIN = /%(?:3A|40|24|26|2B|2C|3B|3D)/g

/** One way to write a path and query, whichever characters of it were escaped. */
function canonical(target: string): string {
  const [path = '', ...query] = target.split('?')
  const rewrite = (text: string, separator: string): string =>
    text
      .split(separator)
      .map((part) => encodeURIComponent(decoded(part)).replace(PLAIN, decodeURIComponent))
      .join(separator)
  return rewrite(path, '/') + (query.length === 0 ? '' : `?${query.join('?')}`)
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
