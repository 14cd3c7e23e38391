/**
 * A filter of system calls (seccomp(2), classic BPF) for what namespaces don't separate:
 *
 * - sockets of other families than local, IPv4, IPv6 and netlink. AF_VSOCK above all: it leads from a virtual machine
 *   to its host and belongs to no network namespace;
 * - io_uring, which makes sockets without the call that is filtered;
 * - the kernel's keyrings, which a process inherits;
 * - new user namespaces, in which everything else could begin again; clone3 keeps its flags where no filter sees them,
 *   so it does not exist, and libraries fall back to clone;
 * - bpf, perf and userfaultfd, which are for attacking the kernel rather than for building.
 *
 * @returns undefined on a machine that there is no table for
 */
export function seccompFilter(architecture: string = process.arch): Buffer | undefined {
  const machine = MACHINES.get(architecture)
  if (machine === undefined) return undefined
  const { audit, calls } = machine
  const program: Instruction[] = []
  // Each check that does not match goes on behind its own return.
  const unlessEqual = (value: number, then: readonly Instruction[]): void => {
    program.push([JUMP_EQUAL, 0, then.length, value], ...then)
  }
  program.push([LOAD, 0, 0, ARCHITECTURE], [JUMP_EQUAL, 1, 0, audit], [RETURN, 0, 0, ERRNO | ENOSYS])
  program.push([LOAD, 0, 0, NUMBER])
  // The x32 calls of x64 have numbers of their own.
  program.push([JUMP_GREATER_EQUAL, 0, 1, 0x4000_0000], [RETURN, 0, 0, ERRNO | ENOSYS])
  for (const call of calls.absent) unlessEqual(call, [[RETURN, 0, 0, ERRNO | ENOSYS]])
  for (const call of calls.forbidden) unlessEqual(call, [[RETURN, 0, 0, ERRNO | EPERM]])
  for (const call of calls.withFlags) {
    unlessEqual(call, [
      [LOAD, 0, 0, FIRST_ARGUMENT],
      [JUMP_ANY_BIT, 0, 1, CLONE_NEWUSER],
      [RETURN, 0, 0, ERRNO | EPERM],
      [RETURN, 0, 0, ALLOW],
    ])
  }
  unlessEqual(calls.socket, [
    [LOAD, 0, 0, FIRST_ARGUMENT],
    ...FAMILIES.map((family, at): Instruction => [JUMP_EQUAL, FAMILIES.length - at, 0, family]),
    [RETURN, 0, 0, ERRNO | EAFNOSUPPORT],
    [RETURN, 0, 0, ALLOW],
  ])
  program.push([RETURN, 0, 0, ALLOW])
  return assemble(program)
}

/**
 * Words in front of a command that is to run with the filter, where bubblewrap does not load it: Perl, which every
 * Debian has, can make any system call. The process must not be able to gain privileges (`setpriv --no-new-privs`).
 */
export function filteredBy(filter: Buffer, perl: string): readonly string[] {
  const machine = MACHINES.get(process.arch)
  return [perl, '-e', LOAD_FILTER, filter.toString('hex'), String(machine?.calls.prctl)]
}

// prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct sock_fprog): how many instructions, and where they are.
const LOAD_FILTER = `
  my $filter = pack('H*', shift); my $prctl = 0 + shift;
  my $program = pack('S x6 P', length($filter) / 8, $filter);
  syscall($prctl, 22, 2, $program) == 0 or die "the filter of system calls: $!\\n";
  exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\\n";`

/** Code, how many to skip if true and if false, and the operand: struct sock_filter of <linux/filter.h>. */
type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, operand: number]

const LOAD = 0x20
const JUMP_EQUAL = 0x15
const JUMP_GREATER_EQUAL = 0x35
const JUMP_ANY_BIT = 0x45
const RETURN = 0x06

// Offsets in struct seccomp_data; an argument has 64 bits, of which the lower half comes first.
const NUMBER = 0
const ARCHITECTURE = 4
const FIRST_ARGUMENT = 16

const ALLOW = 0x7fff_0000
const ERRNO = 0x0005_0000
const EPERM = 1
const ENOSYS = 38
const EAFNOSUPPORT = 97

const CLONE_NEWUSER = 0x1000_0000
// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK.
const FAMILIES = [1, 2, 10, 16]

interface Calls {
  readonly socket: number
  readonly prctl: number
  /** clone and unshare, whose first argument has the flags. */
  readonly withFlags: readonly number[]
  readonly absent: readonly number[]
  readonly forbidden: readonly number[]
}

// Absent: clone3, io_uring_setup, io_uring_enter, io_uring_register.
// Forbidden: setns, add_key, request_key, keyctl, bpf, perf_event_open, userfaultfd.
const MACHINES: ReadonlyMap<string, { readonly audit: number; readonly calls: Calls }> = new Map([
  [
    'x64',
    {
      audit: 0xc000_003e,
      calls: {
        socket: 41,
        prctl: 157,
        withFlags: [56, 272],
        absent: [435, 425, 426, 427],
        forbidden: [308, 248, 249, 250, 321, 298, 323],
      },
    },
  ],
  [
    'arm64',
    {
      audit: 0xc000_00b7,
      calls: {
        socket: 198,
        prctl: 167,
        withFlags: [220, 97],
        absent: [435, 425, 426, 427],
        forbidden: [268, 217, 218, 219, 280, 241, 282],
      },
    },
  ],
])

function assemble(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8)
  for (const [at, [code, ifTrue, ifFalse, operand]] of program.entries()) {
    bytes.writeUInt16LE(code, at * 8)
    bytes.writeUInt8(ifTrue, at * 8 + 2)
    bytes.writeUInt8(ifFalse, at * 8 + 3)
    bytes.writeUInt32LE(operand, at * 8 + 4)
  }
  return bytes
}
