/**
 * A member of a JSON object: its name, and where its value's bytes are. Documents of registries are up to 100 MB, of
 * which a pin needs a few hundred bytes: parsing only those takes neither the memory nor the time of the rest.
 */
export interface Member {
  readonly name: string
  readonly from: number
  readonly to: number
}

const QUOTE = 0x22
const BACKSLASH = 0x5c

/**
 * The members of the object at `from`, in order. What is passed over is only walked, not checked: that a value is JSON
 * shows when it is parsed.
 * @throws SyntaxError if there is no object, or it does not end
 */
export function* membersOf(bytes: Buffer, from = 0): Generator<Member, void, undefined> {
  let at = afterSpace(bytes, from)
  if (bytes[at] !== 0x7b) throw new SyntaxError(`no object at byte ${at}`)
  at = afterSpace(bytes, at + 1)
  if (bytes[at] === 0x7d) return
  for (;;) {
    const nameEnd = endOfString(bytes, at)
    const name = JSON.parse(bytes.toString('utf8', at, nameEnd)) as string
    at = afterSpace(bytes, nameEnd)
    if (bytes[at] !== 0x3a) throw new SyntaxError(`no colon at byte ${at}`)
    const start = afterSpace(bytes, at + 1)
    const end = endOfValue(bytes, start)
    yield { name, from: start, to: end }
    at = afterSpace(bytes, end)
    if (bytes[at] === 0x7d) return
    if (bytes[at] !== 0x2c) throw new SyntaxError(`no comma at byte ${at}`)
    at = afterSpace(bytes, at + 1)
  }
}

/** Parses the bytes of a member. @throws SyntaxError */
export function valueOf(bytes: Buffer, { from, to }: Member): unknown {
  return JSON.parse(bytes.toString('utf8', from, to))
}

function afterSpace(bytes: Buffer, from: number): number {
  let at = from
  for (let byte = bytes[at]; byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09; byte = bytes[at]) at += 1
  return at
}

/** Behind the closing quote of the string that begins at `from`. */
function endOfString(bytes: Buffer, from: number): number {
  if (bytes[from] !== QUOTE) throw new SyntaxError(`no string at byte ${from}`)
  for (let quote = bytes.indexOf(QUOTE, from + 1); quote >= 0; quote = bytes.indexOf(QUOTE, quote + 1)) {
    let backslashes = 0
    while (bytes[quote - 1 - backslashes] === BACKSLASH) backslashes += 1
    if (backslashes % 2 === 0) return quote + 1
  }
  throw new SyntaxError(`the string at byte ${from} does not end`)
}

function endOfValue(bytes: Buffer, from: number): number {
  const first = bytes[from]
  if (first === QUOTE) return endOfString(bytes, from)
  if (first !== 0x7b && first !== 0x5b) return endOfScalar(bytes, from)
  let depth = 0
  for (let at = from; at < bytes.length; at += 1) {
    const byte = bytes[at]
    if (byte === QUOTE) at = endOfString(bytes, at) - 1
    else if (byte === 0x7b || byte === 0x5b) depth += 1
    else if ((byte === 0x7d || byte === 0x5d) && (depth -= 1) === 0) return at + 1
  }
  throw new SyntaxError(`the value at byte ${from} does not end`)
}

/** A number, `true`, `false` or `null`. */
function endOfScalar(bytes: Buffer, from: number): number {
  let at = from
  while (at < bytes.length && !',]} \n\r\t'.includes(String.fromCharCode(bytes[at] ?? 0))) at += 1
  if (at === from) throw new SyntaxError(`no value at byte ${from}`)
  return at
}
