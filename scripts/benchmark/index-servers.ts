import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, linkSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { homedir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'

import { parseLock } from '../../packages/lock/src/index.ts'
import { hexDigest, splitPackageId } from '../../packages/spec/src/index.ts'
import type { Checkout } from './workspace.ts'

/** A registry server that holds the pins of one lock. */
export interface IndexServer {
  readonly name: string
  /** Ends in a slash. */
  readonly url: string
  readonly pid: number
  /** From its start to its first answer. */
  readonly startMs: number
  close(): Promise<void>
}

const VERDACCIO = '6.10.4'
const ABBREVIATED = 'application/vnd.npm.install-v1+json'

/** @param memory for its bodies, in MB; by default as many as it takes by itself */
export async function startPolder(
  program: string,
  { path, store }: Checkout,
  ready: string,
  memory?: string,
): Promise<IndexServer> {
  const port = await freePort()
  const env = { ...process.env, POLDER_HOME: store }
  const limit = memory === undefined ? [] : ['--memory', memory]
  return started(
    'polder',
    port,
    ready,
    spawn(process.execPath, [program, 'index', 'serve', '--port', String(port), ...limit], {
      cwd: path,
      env,
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  )
}

/**
 * nginx with the tarballs of the store and the documents of `polder`, both kinds, as files, and compressed beforehand.
 * Undefined, said why, where nginx is not installed.
 */
export async function startNginx(
  directory: string,
  checkout: Checkout,
  polder: IndexServer,
): Promise<IndexServer | undefined> {
  const program = ['/usr/sbin/nginx', '/usr/bin/nginx', '/usr/local/sbin/nginx'].find((path) => existsSync(path))
  if (program === undefined) {
    console.log('nginx takes no part: it is not installed (Debian: apt-get install nginx-light)')
    return undefined
  }
  const port = await freePort()
  const root = join(directory, 'nginx')
  const [ready = ''] = await writeSite(join(root, 'site'), checkout, polder.url, `http://127.0.0.1:${port}/`)
  mkdirSync(join(root, 'tmp'))
  writeFileSync(
    join(root, 'nginx.conf'),
    `${process.getuid?.() === 0 ? 'user root; ' : ''}worker_processes 1; daemon off; pid ${root}/pid; error_log ${root}/error.log;
events { worker_connections 512; }
http {
  access_log off; sendfile on; tcp_nopush on; gzip_static on; open_file_cache max=20000; keepalive_requests 1000000000;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${root}/tmp/${name};`).join(' ')}
  types { application/octet-stream tgz; ${ABBREVIATED} abbreviated; application/json full; }
  map $http_accept $kind { default full; "~vnd.npm.install" abbreviated; }
  server {
    listen 127.0.0.1:${port}; root ${root}/site;
    location ~ /-/ { }
    location / { try_files $uri/document.$kind =404; }
  }
}
`,
  )
  return started(
    'nginx',
    port,
    ready,
    spawn(program, ['-p', root, '-c', join(root, 'nginx.conf')], { stdio: ['ignore', 'ignore', 'ignore'] }),
  )
}

/** @returns the names, each of which has a document */
async function writeSite(
  site: string,
  { path, store }: Checkout,
  from: string,
  to: string,
): Promise<readonly string[]> {
  const { npm } = parseLock(readFileSync(join(path, 'polder.lock'), 'utf8'), 'polder.lock')
  const names = new Set<string>()
  for (const [id, { integrity, tarball, file }] of Object.entries(npm.packages)) {
    if (tarball !== undefined || file !== undefined) continue
    const { name, reference } = splitPackageId(id)
    const hex = hexDigest(integrity)
    const target = join(site, name, '-', `${basename(name)}-${reference}.tgz`)
    mkdirSync(dirname(target), { recursive: true })
    linkSync(join(store, 'artifacts/sha512', hex.slice(0, 2), hex.slice(2)), target)
    names.add(name)
  }
  for (const name of names) {
    for (const [kind, accept] of [
      ['full', 'application/json'],
      ['abbreviated', ABBREVIATED],
    ] as const) {
      const answer = await fetch(`${from}${name.replace('/', '%2f')}`, { headers: { accept } })
      if (!answer.ok) throw new Error(`polder answers ${answer.status} for ${name}`)
      const body = (await answer.text()).replaceAll(from, to)
      writeFileSync(join(site, name, `document.${kind}`), body)
      writeFileSync(join(site, name, `document.${kind}.gz`), gzipSync(body))
    }
  }
  return [...names].sort()
}

/** verdaccio, which takes what it has not got yet from `upstream`. Undefined, said why, if it cannot be fetched. */
export async function startVerdaccio(
  directory: string,
  upstream: string,
  ready: string,
): Promise<IndexServer | undefined> {
  const program = fetchVerdaccio()
  if (program === undefined) return undefined
  const port = await freePort()
  const home = join(directory, 'verdaccio')
  mkdirSync(home, { recursive: true })
  writeFileSync(
    join(home, 'config.yaml'),
    `storage: ${home}/storage
uplinks: { up: { url: '${upstream}', maxage: 365d, timeout: 60s, agent_options: { keepAlive: true, maxSockets: 40 } } }
packages: { '**': { access: $all, proxy: up } }
auth: { htpasswd: { file: ${home}/htpasswd } }
log: { type: stdout, level: fatal }
web: { enable: false }
server: { keepAliveTimeout: 60 }
`,
  )
  const args = [program, '--config', join(home, 'config.yaml'), '--listen', `http://127.0.0.1:${port}`]
  return started('verdaccio', port, ready, spawn(process.execPath, args, { stdio: 'ignore', cwd: home }))
}

/** From npm, kept for the next time in the user's cache directory. */
function fetchVerdaccio(): string | undefined {
  const cache = join(
    process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
    'polder-bench',
    `verdaccio-${VERDACCIO}`,
  )
  const program = join(cache, 'node_modules/verdaccio/bin/verdaccio')
  if (existsSync(program)) return program
  mkdirSync(cache, { recursive: true })
  // It asks for node-fetch by a tag, which a registry that mirrors versions only does not know.
  const manifest = { private: true, dependencies: { verdaccio: VERDACCIO }, overrides: { 'node-fetch': '2.7.0' } }
  writeFileSync(join(cache, 'package.json'), JSON.stringify(manifest))
  try {
    const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
    execFileSync('npm', ['install', ...options], { cwd: cache, stdio: ['ignore', 'ignore', 'inherit'] })
    return program
  } catch {
    console.log(`verdaccio takes no part: ${VERDACCIO} could not be fetched`)
    return undefined
  }
}

async function started(name: string, port: number, ready: string, child: ChildProcess): Promise<IndexServer> {
  const start = performance.now()
  const url = `http://127.0.0.1:${port}/`
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  // Whatever ends the benchmark, it leaves no server behind.
  process.once('exit', () => child.kill('SIGTERM'))
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${name} ended with exit code ${child.exitCode}`)
    try {
      const answer = await fetch(`${url}${ready}`)
      await answer.arrayBuffer()
      if (answer.ok) break
      if (answer.status !== 503) throw new Error(`${name} answers ${answer.status} for ${ready}`)
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      if (performance.now() - start > 60_000) throw new Error(`${name} does not answer`, { cause: error })
    }
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  const close = async (): Promise<void> => {
    child.kill('SIGTERM')
    await ended
  }
  return { name, url, pid: child.pid ?? 0, startMs: performance.now() - start, close }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}
