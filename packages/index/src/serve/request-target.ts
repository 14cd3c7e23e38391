import { isPackageName } from '@polder/spec'

/** What a request's URL asks for. `view` is the id of a lock, or undefined for everything that is served. */
export type RequestTarget =
  /** The document of a name, or with a version or tag what it says of that one. */
  | { readonly kind: 'document'; readonly view: string | undefined; readonly name: string; readonly version?: string }
  | { readonly kind: 'tarball'; readonly view: string | undefined; readonly name: string; readonly version: string }
  /** Below `/-/`; `raw` is path and query as they were sent. */
  | {
      readonly kind: 'service'
      readonly view: string | undefined
      readonly path: string
      readonly query: string
      readonly raw: string
    }
  | { readonly kind: 'malformed'; readonly status: 400 | 404 | 414; readonly reason: string }

/** The paths of documents and tarballs are far shorter, and what is longer would be copied on its way through here. */
const MAX_LENGTH = 4096

const TARBALL = /^((?:@[^/]+\/)?([^/]+))\/-\/([^/]+)\.tgz$/
const DOCUMENT = /^(@[^/]+\/[^/]+|[^@/][^/]*)(?:\/([^/]+))?$/

/**
 * Takes a URL apart. `%2f` and `%2F` in scoped names are decoded, a URL with a host (what clients send to a proxy) is
 * taken by its path: what is asked for counts, never whom the client thinks it asks.
 * @param isView true for the ids of locks
 */
export function parseTarget(url: string, isView: (id: string) => boolean): RequestTarget {
  if (url.length > MAX_LENGTH)
    return malformed(414, `the URL has ${url.length} characters; the longest that is answered has ${MAX_LENGTH}`)
  const raw = url.replace(/^https?:\/\/[^/]*/i, '')
  if (!raw.startsWith('/')) return malformed(400, 'the URL has no path')
  const question = raw.indexOf('?')
  const rawPath = question < 0 ? raw : raw.slice(0, question)
  const query = question < 0 ? '' : raw.slice(question + 1)
  let path: string
  try {
    path = decodeURIComponent(rawPath)
  } catch {
    return malformed(400, 'the URL is not percent-encoded UTF-8')
  }
  // oxlint-disable-next-line no-control-regex -- what no path may hold
  if (/[\0-\x1F\x7F\\]/.test(path)) return malformed(400, 'the URL holds control characters or backslashes')
  if (/\/(?:\.{1,2})?\/|\/\.{1,2}$/.test(path)) return malformed(404, 'the path has an empty part, . or ..')
  path = path.replace(/(?<=.)\/$/, '')
  const viewed = /^\/@lock\/([^/]+)(\/.*)?$/.exec(path)
  const view = viewed?.[1] !== undefined && isView(viewed[1]) ? viewed[1] : undefined
  const below = view === undefined ? path : (viewed?.[2] ?? '/')
  if (below === '/' || below === '/-' || below.startsWith('/-/')) {
    return {
      kind: 'service',
      view,
      path: below,
      query,
      raw: view === undefined ? raw : raw.replace(/^\/@lock\/[^/]+/, ''),
    }
  }
  return packageTarget(below.slice(1), view)
}

function packageTarget(path: string, view: string | undefined): RequestTarget {
  const tarball = TARBALL.exec(path)
  if (tarball !== null) {
    const [, name = '', last = '', file = ''] = tarball
    if (!isPackageName(name)) return malformed(404, `${JSON.stringify(name)} is no package name`)
    if (!file.startsWith(`${last}-`)) return malformed(404, `${file}.tgz is no tarball of ${name}`)
    return { kind: 'tarball', view, name, version: file.slice(last.length + 1) }
  }
  const [, name = '', version] = DOCUMENT.exec(path) ?? []
  if (!isPackageName(name)) return malformed(404, `${JSON.stringify(name === '' ? path : name)} is no package name`)
  return { kind: 'document', view, name, ...(version === undefined ? {} : { version }) }
}

function malformed(status: 400 | 404 | 414, reason: string): RequestTarget {
  return { kind: 'malformed', status, reason }
}
