/** What of a request's headers decides about the answer. */
export interface Conditions {
  readonly host: string | undefined
  readonly accept: string
  readonly acceptEncoding: string
  readonly ifNoneMatch: string | undefined
  readonly ifModifiedSince: string | undefined
  readonly range: string | undefined
  readonly ifRange: string | undefined
}

/**
 * Reads the headers of a request as they were sent. Asking Node for them by name would first make an object of all of
 * them, an eighth of what a request costs.
 * @param raw name, value, name, value…
 */
export function readConditions(raw: readonly string[]): Conditions {
  let host: string | undefined
  let accept = ''
  let acceptEncoding = ''
  let ifNoneMatch: string | undefined
  let ifModifiedSince: string | undefined
  let range: string | undefined
  let ifRange: string | undefined
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? ''
    // Few headers have these lengths, so few are compared.
    switch (name.length) {
      case 4:
        if (is(name, 'host')) host = raw[at + 1]
        break
      case 5:
        if (is(name, 'range')) range = raw[at + 1]
        break
      case 6:
        if (is(name, 'accept')) accept += raw[at + 1] ?? ''
        break
      case 8:
        if (is(name, 'if-range')) ifRange = raw[at + 1]
        break
      case 13:
        if (is(name, 'if-none-match')) ifNoneMatch = raw[at + 1]
        break
      case 15:
        if (is(name, 'accept-encoding')) acceptEncoding += raw[at + 1] ?? ''
        break
      case 17:
        if (is(name, 'if-modified-since')) ifModifiedSince = raw[at + 1]
        break
    }
  }
  return { host, accept, acceptEncoding, ifNoneMatch, ifModifiedSince, range, ifRange }
}

function is(name: string, wanted: string): boolean {
  return name === wanted || name.toLowerCase() === wanted
}

/** Of `Accept-Encoding` (RFC 9110, 12.5.3); what is not named is not used, `*` aside. */
export function takesGzip(acceptEncoding: string): boolean {
  if (acceptEncoding === '') return false
  if (!acceptEncoding.includes('q=')) return acceptEncoding.includes('gzip') || acceptEncoding.includes('*')
  const weights = new Map(
    acceptEncoding.split(',').map((part) => {
      const [coding = '', weight = 'q=1'] = part.toLowerCase().split(';')
      return [coding.trim(), Number(weight.trim().replace('q=', ''))]
    }),
  )
  return (weights.get('gzip') ?? weights.get('x-gzip') ?? weights.get('*') ?? 0) > 0
}

/**
 * True if the client has this state already (RFC 9110, 13.2.2: the date counts only where there is no `If-None-Match`,
 * and tags are compared weakly). Of dates only the same one counts: a lock may go back to older versions.
 * @param opaque the tag without `W/`
 */
export function isUnchanged(conditions: Conditions, opaque: string, lastModified: string): boolean {
  const { ifNoneMatch, ifModifiedSince } = conditions
  if (ifNoneMatch === undefined) return ifModifiedSince === lastModified
  return ifNoneMatch.includes(opaque) || ifNoneMatch.trim() === '*'
}

/** A part of a body, `end` included; `null` is the whole, `unsatisfiable` a part that is not there. */
export type Part = { readonly start: number; readonly end: number } | null | 'unsatisfiable'

/**
 * The part of a body that is asked for (RFC 9110, 14.2). Several parts at once, and units other than bytes, are
 * answered with the whole, as is what is meant for another state of it.
 */
export function partOf(conditions: Conditions, size: number, etag: string, lastModified: string): Part {
  const { range, ifRange } = conditions
  if (range === undefined || (ifRange !== undefined && ifRange !== etag && ifRange !== lastModified)) return null
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(range.trim()) ?? []
  if (first === '' && last === '') return null
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? 'unsatisfiable' : { start: size - length, end: size - 1 }
  }
  const start = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < start) return null
  return start >= size ? 'unsatisfiable' : { start, end }
}
