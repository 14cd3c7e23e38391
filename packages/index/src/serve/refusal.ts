import type { IncomingMessage } from 'node:http'

/** A request for something that is not pinned. */
export interface Refusal {
  /** `name`, `name@version`, the URL of a file, or the id of a lock. */
  readonly what: string
  readonly kind: 'package' | 'version' | 'file' | 'lock'
  /** Who asks, as the server's owner knows it: the package that is being built, for example. */
  readonly asker?: string
  readonly userAgent?: string
  /** What the client was told to do, such as `install`. */
  readonly command?: string
  readonly referer?: string
  /** The socket on which it came: a path, or the address that is listened at. */
  readonly socket: string
}

/** Long enough to recognise, short enough to keep. */
const LONGEST = 300

/** @param asker as the server was told */
export function refusalOf(
  { headers }: IncomingMessage,
  subject: Pick<Refusal, 'what' | 'kind'>,
  { asker, socket }: { readonly asker: string | undefined; readonly socket: string },
): Refusal {
  const header = (name: string): string | undefined => {
    const value = headers[name]
    return typeof value === 'string' ? value.slice(0, LONGEST) : undefined
  }
  const optional = {
    asker,
    userAgent: header('user-agent'),
    command: header('npm-command'),
    referer: header('referer'),
  }
  return {
    ...subject,
    what: subject.what.slice(0, LONGEST),
    socket,
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
  }
}
