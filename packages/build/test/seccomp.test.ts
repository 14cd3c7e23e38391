import { expect, test } from 'vitest'

import { seccompFilter } from '../src/sandbox/seccomp.ts'
import { needs, runBuild, WAYS, withoutFor } from './support/sandboxes.ts'

/** What the kernel would do with the filter (seccomp(2)): struct seccomp_data in, `allow` or an error number out. */
function decide(
  filter: Buffer,
  call: { readonly number: number; readonly audit: number; readonly first?: number },
): unknown {
  const data = Buffer.alloc(64)
  data.writeUInt32LE(call.number, 0)
  data.writeUInt32LE(call.audit, 4)
  data.writeUInt32LE(call.first ?? 0, 16)
  let accumulator = 0
  for (let at = 0; at < filter.length / 8; at++) {
    const code = filter.readUInt16LE(at * 8)
    const operand = filter.readUInt32LE(at * 8 + 4)
    const jump = (condition: boolean): number => filter.readUInt8(at * 8 + (condition ? 2 : 3))
    if (code === 0x20) accumulator = data.readUInt32LE(operand)
    else if (code === 0x15) at += jump(accumulator === operand)
    else if (code === 0x35) at += jump(accumulator >= operand)
    else if (code === 0x45) at += jump((accumulator & operand) !== 0)
    else if (code === 0x06) return operand === 0x7fff0000 ? 'allow' : operand & 0xffff
    else throw new Error(`instruction ${at}: ${code}`)
  }
  throw new Error('the filter has no end')
}

const MACHINES = [
  { machine: 'x64', audit: 0xc000003e, socket: 41, clone: 56, unshare: 272, keyctl: 250, setns: 308, read: 0 },
  { machine: 'arm64', audit: 0xc00000b7, socket: 198, clone: 220, unshare: 97, keyctl: 219, setns: 268, read: 63 },
]
const EPERM = 1
const ENOSYS = 38
const EAFNOSUPPORT = 97

test.for(MACHINES)('on $machine, the filter lets through what a build needs', ({ machine, audit, ...call }) => {
  const filter = seccompFilter(machine) ?? Buffer.alloc(0)
  const answer = (number: number, first?: number): unknown =>
    decide(filter, { number, audit, ...(first === undefined ? {} : { first }) })
  expect(answer(call.read)).toBe('allow')
  // Local sockets, IPv4, IPv6, netlink; not virtual machines' (40), packets (17), kernel crypto (38).
  expect([1, 2, 10, 16].map((family) => answer(call.socket, family))).toEqual(Array(4).fill('allow'))
  expect([40, 17, 38, 0].map((family) => answer(call.socket, family))).toEqual(Array(4).fill(EAFNOSUPPORT))
  // A thread, a child; not a user namespace, with whatever else.
  expect([0x3d0f00, 0x1200011].map((flags) => answer(call.clone, flags))).toEqual(['allow', 'allow'])
  expect([0x10000000, 0x10000011, 0x7e020000].map((flags) => answer(call.clone, flags))).toEqual(Array(3).fill(EPERM))
  expect([0x10000000, 0x10020000].map((flags) => answer(call.unshare, flags))).toEqual([EPERM, EPERM])
  expect([call.keyctl, call.setns].map((number) => answer(number))).toEqual([EPERM, EPERM])
  // clone3, and io_uring.
  expect([435, 425, 426, 427].map((number) => answer(number))).toEqual(Array(4).fill(ENOSYS))
  // As 32-bit code, and with the numbers of x32.
  expect(decide(filter, { number: call.socket, audit: 0x40000003, first: 40 })).toBe(ENOSYS)
  expect(answer(0x40000000 + call.socket, 40)).toBe(ENOSYS)
})

test('there is no filter for a machine that is not known', () => {
  expect(seccompFilter('riscv64')).toBeUndefined()
})

test.for(WAYS)(
  'a build of $user cannot make a socket to the host of a virtual machine, in $level',
  async (way, context) => {
    needs(context, way.user)
    // Perl calls socket(2) with what it is given: 40 is AF_VSOCK, 2 AF_INET.
    const script = 'for (2, 40) { print socket(my $s, $_, 1, 0) ? "yes\\n" : "$!\\n" }'
    const { tail } = await runBuild(
      { user: way.user, without: withoutFor(way.level) },
      { command: ['perl', '-e', script] },
    )
    expect(tail).toBe('yes\nAddress family not supported by protocol\n')
  },
)
