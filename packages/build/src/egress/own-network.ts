import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import type { Programs } from '../programs.ts'

/** Where a build finds the index, on its own loopback. */
export const INDEX_PORT = 4873
/** Where everything that a build sends outside of its loopback ends. */
const SINK_PORT = 64873

// Names are asked of our name server, whichever server was meant. The destinations of datagrams are remembered, since
// who receives one is not told where it was going; those of connections the kernel tells (socket-tables.ts).
const RULES = `
table inet polder {
  set sent4 { type ipv4_addr . inet_service . inet_service; flags dynamic; size 4096; }
  set sent6 { type ipv6_addr . inet_service . inet_service; flags dynamic; size 4096; }
  chain out {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    meta l4proto { tcp, udp } th dport 53 redirect
    meta l4proto udp update @sent4 { ip daddr . udp dport . udp sport }
    meta l4proto udp update @sent6 { ip6 daddr . udp dport . udp sport }
    meta l4proto { tcp, udp } redirect to :${SINK_PORT}
  }
}
`

// Every address is our own, so that what is sent there is accepted. A kernel without IPv6 has nothing to reach by it.
const ROUTES = 'route add local default dev lo\nroute add local ::/0 dev lo\n'

// A socket belongs to the network namespace that it is made in. Node can neither enter one nor make one, but it takes
// sockets from a child that talks as Node does (child_process, `subprocess.send` with a handle): one JSON document a
// line, and the socket as SCM_RIGHTS beside it. Perl is on every Debian and starts in a millisecond; without its modules,
// so numbers and structures are those of <linux/socket.h>, <linux/in.h> and netdevice(7).
const ENTER = `
  use strict;
  my ($unshare, $sendmsg, $scratch, $ip, $nft) = splice @ARGV, 0, 5;
  my $channel = delete $ENV{NODE_CHANNEL_FD};
  delete $ENV{NODE_CHANNEL_SERIALIZATION_MODE};
  open(my $polder, '+<&=', $channel) or die "no channel to polder: $!\\n";
  syscall(0 + $unshare, 0x40000000) == 0 or die "no network namespace: $!\\n";

  sub failure {
    my $pid = open(my $out, '-|') // die "fork: $!\\n";
    if (!$pid) { open(STDERR, '>&', \\*STDOUT); exec { $_[0] } @_ or die "$_[0]: $!\\n" }
    my $said = join '', <$out>;
    return close($out) ? '' : $said || "$_[0] failed\\n";
  }
  socket(my $any, 2, 2, 0) or die "a socket: $!\\n";
  my $up = pack('a16 S x22', 'lo', 1);
  ioctl($any, 0x8914, $up) or die "the loopback: $!\\n";

  my $incomplete = $nft eq '' ? 'nft is missing' : $ip eq '' ? 'ip is missing' : failure($nft, '-f', "$scratch/network.nft");
  if ($incomplete eq '') {
    my $said = failure($ip, '-force', '-batch', "$scratch/routes");
    $incomplete = $said if $said =~ /:1$/m;
  }

  sub hand {
    my ($as, $kind, $family, $port) = @_;
    my $here = $as eq 'sink' ? 0 : 1;
    my $address = $family == 2 ? pack('S n C4 x8', 2, $port, $here ? (127, 0, 0, 1) : (0) x 4)
                               : pack('S n L x15 C L', 10, $port, 0, $here, 0);
    socket(my $socket, $family, $kind, 0) or return 0;
    setsockopt($socket, 41, 26, pack('i', $here)) if $family == 10;
    bind($socket, $address) or return 0;
    $kind == 2 or listen($socket, 511) or die "listen: $!\\n";
    my $type = $kind == 2 ? '"dgram.Socket","dgramType":"udp' . ($family == 2 ? 4 : 6) . '"' : '"net.Server"';
    my $line = qq({"cmd":"NODE_HANDLE","type":$type,"msg":{"as":"$as"}}\\n);
    my $rights = pack('Q i i i x4', 20, 1, 1, fileno $socket);
    my $vector = pack('P Q', $line, length $line);
    my $message = pack('Q L x4 P Q P Q i x4', 0, 0, $vector, 1, $rights, length $rights, 0);
    syscall(0 + $sendmsg, 0 + $channel, $message, 0) == length $line or die "sendmsg: $!\\n";
    (readline($polder) // '') =~ /NODE_HANDLE_ACK/ or die "a socket was not received\\n";
    return 1;
  }
  hand('index', 1, 2, ${INDEX_PORT}) or die "port ${INDEX_PORT}: $!\\n";
  for my $kind (1, 2) {
    hand('names', $kind, 2, 53) or die "port 53: $!\\n";
    hand('names', $kind, 10, 53);
    next if $incomplete ne '';
    hand('sink', $kind, 10, ${SINK_PORT}) or hand('sink', $kind, 2, ${SINK_PORT}) or die "port ${SINK_PORT}: $!\\n";
  }
  $incomplete = unpack('H*', $incomplete);
  syswrite($polder, qq({"incomplete":"$incomplete"}\\n));
  defined(readline($polder)) or die "polder has ended\\n";
  close($polder);
  exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\\n";`

// unshare and sendmsg, by Node's name of the architecture.
const CALLS: ReadonlyMap<string, readonly [unshare: number, sendmsg: number]> = new Map([
  ['x64', [272, 46]],
  ['arm64', [97, 211]],
  ['loong64', [97, 211]],
  ['riscv64', [97, 211]],
  ['ppc64', [282, 341]],
  ['s390x', [303, 370]],
])

/** Writes what the command of {@link inOwnNetwork} reads into a directory of ours. */
export function writeNetworkFiles(scratch: string): void {
  writeFileSync(join(scratch, 'network.nft'), RULES)
  writeFileSync(join(scratch, 'routes'), ROUTES)
}

/**
 * Words in front of a command that is to run in a network namespace of its own, with a loopback and nothing else. It hands
 * the sockets that listen there to whoever started it with an IPC channel, and begins when it is told to
 * ({@link receiveNetwork}). It needs the capabilities of the user namespace that it is in.
 * @throws Error if Perl is missing, or the architecture unknown
 */
export function inOwnNetwork({ perl, ip = '', nft = '' }: Programs, scratch: string): readonly string[] {
  const calls = CALLS.get(process.arch)
  if (calls === undefined) throw new Error(`no network namespaces for builds on ${process.arch}`)
  if (perl === undefined) throw new Error('perl is missing')
  return [perl, '-e', ENTER, ...calls.map(String), scratch, ip, nft]
}
