import type { Socket } from 'node:net'

import { printable } from './first-bytes.ts'
import type { Network } from './network.ts'

/** One question of a DNS message, as it was asked. */
interface Question {
  readonly name: string
  readonly type: number
  /** Where the question section ends. */
  readonly end: number
}

const TYPES: ReadonlyMap<number, string> = new Map([
  [1, 'A'],
  [5, 'CNAME'],
  [6, 'SOA'],
  [2, 'NS'],
  [12, 'PTR'],
  [15, 'MX'],
  [16, 'TXT'],
  [28, 'AAAA'],
  [33, 'SRV'],
  [65, 'HTTPS'],
  [255, 'ANY'],
])

// 198.18.0.0/15 is set aside for tests of networks (RFC 2544): no real host has an address in it.
const ADDRESSES = 2 ** 17 - 2

/**
 * Which name an invented address was given out for. A build that is told an address goes on to connect to it, and the
 * connection then says what it wanted; told that the name does not exist, it would say no more than the name.
 */
export interface InventedAddresses {
  readonly addressOf: (name: string) => string | undefined
  readonly nameOf: (address: string) => string | undefined
}

export function inventedAddresses(most: number = 2000): InventedAddresses {
  const byName = new Map<string, string>()
  const byAddress = new Map<string, string>()
  return {
    addressOf: (name) => {
      const known = byName.get(name)
      if (known !== undefined || byName.size >= Math.min(most, ADDRESSES)) return known
      const number = byName.size + 1
      const address = `198.${18 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`
      byName.set(name, address)
      byAddress.set(address, name)
      return address
    },
    nameOf: (address) => byAddress.get(address),
  }
}

/** Who asked, and how. */
export interface Asker {
  readonly protocol: 'udp' | 'tcp'
  readonly address: string
  readonly port: number
}

type Asked = (name: string, type: string, from: Asker) => void

/**
 * The only name server that a build has. It gives each name an invented address, says that there is no IPv6 address,
 * and no record of any other type.
 * @param ends where it is asked, one for each address: a reply leaves from where its question arrived, also after a redirect
 * @param asked is told each question
 */
export function answerNames(ends: Network['names'], addresses: InventedAddresses, asked: Asked): void {
  const reply = (message: Buffer, from: Asker): Buffer | undefined => {
    const question = readQuestion(message)
    if (question === undefined) return undefined
    asked(question.name, TYPES.get(question.type) ?? `TYPE${question.type}`, from)
    return answer(message, question, question.type === 1 ? addresses.addressOf(question.name) : undefined)
  }
  for (const socket of ends.udp) {
    socket.on('message', (message, from) => {
      const bytes = reply(message, { protocol: 'udp', address: from.address, port: from.port })
      if (bytes !== undefined) socket.send(bytes, from.port, from.address)
    })
    // A reply that nobody waits for any more.
    socket.on('error', () => undefined)
  }
  for (const server of ends.tcp) {
    server.maxConnections = 64
    server.on('connection', over(reply))
  }
}

/** RFC 1035, 4.2.2: over TCP, a message comes behind its length. */
function over(reply: (message: Buffer, from: Asker) => Buffer | undefined): (connection: Socket) => void {
  return (connection) => {
    const { remoteAddress: address = '', remotePort: port = 0 } = connection
    let bytes = Buffer.alloc(0)
    connection.setTimeout(5000, () => connection.destroy())
    connection.on('error', () => connection.destroy())
    connection.on('data', (more: Buffer) => {
      bytes = Buffer.concat([bytes, more])
      if (bytes.length < 2 || bytes.length < 2 + bytes.readUInt16BE(0)) return
      const answered = reply(bytes.subarray(2, 2 + bytes.readUInt16BE(0)), { protocol: 'tcp', address, port })
      if (answered === undefined) return void connection.destroy()
      const length = Buffer.alloc(2)
      length.writeUInt16BE(answered.length)
      connection.end(Buffer.concat([length, answered]))
    })
  }
}

/** RFC 1035, 4.1: a header of 12 bytes, then labels, each behind its length, up to one of length zero. */
function readQuestion(message: Buffer): Question | undefined {
  try {
    if (message.readUInt16BE(4) !== 1) return undefined
    const labels: string[] = []
    let at = 12
    for (;;) {
      const length = message.readUInt8(at)
      if (length === 0) break
      if (length > 63 || at + 1 + length > message.length || labels.length > 127) return undefined
      labels.push(printable(message.toString('latin1', at + 1, at + 1 + length), 63))
      at += 1 + length
    }
    return { name: labels.join('.'), type: message.readUInt16BE(at + 1), end: at + 5 }
  } catch {
    return undefined
  }
}

function answer(message: Buffer, { end }: Question, address: string | undefined): Buffer {
  const head = Buffer.from(message.subarray(0, end))
  // A response, recursion desired and available, no error; one question, and as many answers as we have.
  head.writeUInt16BE(0x8180, 2)
  head.writeUInt16BE(address === undefined ? 0 : 1, 6)
  head.writeUInt16BE(0, 8)
  head.writeUInt16BE(0, 10)
  if (address === undefined) return head
  // The name of the question (a pointer to byte 12), type A, class IN, 5 seconds, 4 bytes.
  const record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, ...address.split('.').map(Number)]
  return Buffer.concat([head, Buffer.from(record)])
}
