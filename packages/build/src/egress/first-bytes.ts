/** What the first bytes of a connection tell of what was wanted. */
export interface FirstBytes {
  readonly sni?: string
  readonly request?: string
  readonly host?: string
  readonly first?: string
}

const SHOWN = 160

/** Everything in it comes from the build, so it is cut and escaped here; nothing is decoded further than its name. */
export function describeFirstBytes(bytes: Buffer): FirstBytes {
  if (bytes.length === 0) return {}
  const sni = serverName(bytes)
  const text = bytes.toString('latin1')
  const [, method, target] = /^([A-Z]{3,10}) (\S{1,2000}) HTTP\/1\.[01]\r?\n/.exec(text) ?? []
  const host = /\r?\nhost: *([^\r\n]{1,255})/i.exec(text)?.[1]
  return {
    ...(sni === undefined ? {} : { sni: printable(sni, 255) }),
    ...(method === undefined || target === undefined ? {} : { request: printable(`${method} ${target}`, 500) }),
    ...(method === undefined || host === undefined ? {} : { host: printable(host, 255) }),
    // A handshake says no more than the name it is for.
    ...(sni === undefined ? { first: printable(text, SHOWN) } : {}),
  }
}

/** Whether these are the first bytes of a TLS handshake, which is then answered in its own language. */
export function isTlsHandshake(bytes: Buffer): boolean {
  return bytes.length >= 3 && bytes[0] === 0x16 && bytes[1] === 0x03
}

/** How many bytes have to be there before `describeFirstBytes` can say all it is able to. */
export function wantedBytes(bytes: Buffer): number {
  if (isTlsHandshake(bytes)) return bytes.length < 5 ? 5 : 5 + bytes.readUInt16BE(3)
  // A request that has only begun.
  if (/^[A-Z]{3,10} /.test(bytes.toString('latin1', 0, 12)) && !bytes.includes('\r\n\r\n')) return bytes.length + 1
  return 1
}

/** Text of one line: bytes that a terminal could take for more than a letter become `\xNN`. */
export function printable(text: string, length: number): string {
  return text
    .slice(0, length)
    .replaceAll(/[^ -~]/g, (letter) => `\\x${(letter.charCodeAt(0) & 0xff).toString(16).padStart(2, '0')}`)
}

/**
 * The server name of a ClientHello (RFC 8446, 4.1.2; the extension is that of RFC 6066): a record header of 5 bytes, a
 * handshake header of 4, version and random of 34, then three lists with their lengths in front, then extensions.
 */
function serverName(bytes: Buffer): string | undefined {
  if (!isTlsHandshake(bytes)) return undefined
  try {
    let at = 43
    at += 1 + bytes.readUInt8(at)
    at += 2 + bytes.readUInt16BE(at)
    at += 1 + bytes.readUInt8(at)
    const end = Math.min(at + 2 + bytes.readUInt16BE(at), bytes.length)
    at += 2
    while (at + 4 <= end) {
      const type = bytes.readUInt16BE(at)
      const length = bytes.readUInt16BE(at + 2)
      if (type === 0) return bytes.toString('latin1', at + 9, Math.min(at + 9 + bytes.readUInt16BE(at + 7), end))
      at += 4 + length
    }
  } catch {
    // Cut off, or no ClientHello after all.
  }
  return undefined
}
