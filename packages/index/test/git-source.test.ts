import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import { packageId, PolderError } from '@polder/spec'
import { openStore, readArtifact, type Store } from '@polder/store'
import { Parser } from 'tar/parse'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'

import { fromGit } from '../src/upstream/git-source.ts'
import type { PinRequest } from '../src/pins/pin.ts'
import { readPinned } from '../src/pins/pinned.ts'
import { syncPins, type SyncOptions } from '../src/pins/sync.ts'

const MAX = 2 ** 30

let directory: string
let repository: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'polder-git-test-'))
  vi.stubEnv('HOME', directory)
  vi.stubEnv('XDG_CONFIG_HOME', join(directory, 'config'))
  vi.stubEnv('GIT_CONFIG_NOSYSTEM', '1')
  repository = join(directory, 'repository')
  git('init', '--quiet', '--initial-branch=main', repository)
})

afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true, force: true })
})

function git(...args: readonly string[]): string {
  const identity = ['-c', 'user.name=Somebody', '-c', 'user.email=somebody@host.example', '-c', 'commit.gpgSign=false']
  const inside = args[0] === 'init' ? [] : ['-C', repository]
  return execFileSync('git', [...inside, ...identity, ...args], {
    encoding: 'utf8',
    env: { ...process.env, GIT_AUTHOR_DATE: '2020-01-01T00:00:00Z', GIT_COMMITTER_DATE: '2020-01-01T00:00:00Z' },
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim()
}

/** Commits these files, all others gone, and gives the commit. */
function commit(files: Readonly<Record<string, string | Buffer>>): string {
  for (const name of readdirSync(repository)) if (name !== '.git') rmSync(join(repository, name), { recursive: true })
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(repository, path)), { recursive: true })
    writeFileSync(join(repository, path), content)
  }
  git('add', '--all', '--force')
  git('commit', '--quiet', '--allow-empty', '--message=x')
  return git('rev-parse', 'HEAD')
}

const MANIFEST = JSON.stringify({ name: 'lib', version: '1.2.3' })

/** Path → contents, `!` behind the path of what is executable. */
function filesOf(tarball: Buffer): Record<string, string> {
  const files: Record<string, string> = {}
  const parser = new Parser({ strict: true })
  parser.on('entry', (entry) => {
    const chunks: Buffer[] = []
    entry.on('data', (chunk: Buffer) => chunks.push(chunk))
    entry.on('end', () => {
      files[`${entry.path}${((entry.mode ?? 0) & 0o100) === 0 ? '' : '!'}`] = Buffer.concat(chunks).toString('latin1')
    })
  })
  parser.end(gunzipSync(tarball))
  return files
}

async function refusal(run: Promise<unknown>): Promise<PolderError> {
  const error: unknown = await run.catch((failure: unknown) => failure)
  if (error instanceof PolderError) return error
  throw new Error(`it was not refused: ${String(error)}`)
}

describe('a commit', () => {
  test('is packed as npm would publish it, whichever commit comes after it, with the same bytes each time', async () => {
    const first = commit({
      'package.json': JSON.stringify({ name: 'lib', version: '1.2.3', files: ['lib'], bin: 'cli.js' }),
      'lib/index.js': 'module.exports = 1\n',
      'lib/deep/er.js': 'er\n',
      'cli.js': '#!/usr/bin/env node\n',
      'README.md': 'read\n',
      'test/x.js': 'not published\n',
    })
    commit({ 'package.json': MANIFEST })
    const { tarball, warnings } = await fromGit(`git+file://${repository}`, first, MAX)
    expect(filesOf(tarball)).toEqual({
      'package/package.json': expect.stringContaining('"name":"lib"') as string,
      'package/lib/index.js': 'module.exports = 1\n',
      'package/lib/deep/er.js': 'er\n',
      'package/cli.js!': '#!/usr/bin/env node\n',
      'package/README.md': 'read\n',
    })
    expect(warnings).toEqual([])
    expect((await fromGit(`file://${repository}`, first, MAX)).tarball.equals(tarball)).toBe(true)
    expect(existsSync(join(repository, '.git/shallow'))).toBe(false)
  })

  test('is taken byte by byte: no attribute, filter, line end or hook has a say', async () => {
    const ran = join(directory, 'ran')
    const id = commit({
      'package.json': MANIFEST,
      '.gitattributes': '*.txt text eol=crlf\n*.id ident export-subst\n*.js filter=evil\nhidden.txt export-ignore\n',
      'a.txt': 'a\nb\n',
      'b.id': '$Id$ $Format:%H$\n',
      'c.js': 'c\n',
      'hidden.txt': 'h\n',
    })
    mkdirSync(join(directory, 'hooks'))
    for (const hook of ['reference-transaction', 'post-checkout', 'post-index-change']) {
      writeFileSync(join(directory, 'hooks', hook), `#!/bin/sh\necho ${hook} >> ${ran}\n`)
      chmodSync(join(directory, 'hooks', hook), 0o755)
    }
    writeFileSync(
      join(directory, '.gitconfig'),
      `[core]\n\tautocrlf = true\n\thooksPath = ${directory}/hooks\n[filter "evil"]\n\tsmudge = touch ${ran}\n\trequired = true\n[init]\n\ttemplateDir = ${directory}/hooks\n`,
    )
    const { tarball } = await fromGit(`git+file://${repository}`, id, MAX)
    expect(filesOf(tarball)).toMatchObject({
      'package/a.txt': 'a\nb\n',
      'package/b.id': '$Id$ $Format:%H$\n',
      'package/c.js': 'c\n',
      'package/hidden.txt': 'h\n',
    })
    expect(existsSync(ran)).toBe(false)
  })

  test('is only a package in a directory of it, where the lockfile says so', async () => {
    const id = commit({
      'package.json': MANIFEST,
      'packages/[a]/package.json': JSON.stringify({ name: 'a', version: '1.0.0' }),
      'packages/[a]/deep/index.js': 'a\n',
      'packages/a/package.json': MANIFEST,
      file: 'no directory\n',
    })
    const { tarball } = await fromGit(`git+file://${repository}`, id, MAX, 'packages/[a]')
    expect(filesOf(tarball)).toEqual({
      'package/package.json': JSON.stringify({ name: 'a', version: '1.0.0' }),
      'package/deep/index.js': 'a\n',
    })
    for (const path of ['packages/b', 'file', 'packages/[a]/deep/index.js', ':/', '--help']) {
      const { code, message } = await refusal(fromGit(`git+file://${repository}`, id, MAX, path))
      expect({ code, message }).toEqual({
        code: 'FETCH_FAILED',
        message: `the commit has no directory ${JSON.stringify(path)}`,
      })
    }
  })

  test('that has to be prepared is packed whole, since what would be published is not there yet', async () => {
    const manifest = JSON.stringify({ name: 'lib', version: '1.0.0', files: ['dist'], scripts: { prepare: 'tsc' } })
    const id = commit({ 'package.json': manifest, 'src/deep/index.ts': 'export {}\n', '.npmignore': 'src\n' })
    expect(filesOf((await fromGit(`git+file://${repository}`, id, MAX)).tarball)).toEqual({
      'package/package.json': manifest,
      'package/src/deep/index.ts': 'export {}\n',
      'package/.npmignore': 'src\n',
    })
  })

  test('is packed without its links, submodules and LFS objects, and the latter two are said', async () => {
    commit({ 'package.json': MANIFEST })
    symlinkSync('/etc/passwd', join(repository, 'link'))
    writeFileSync(join(repository, 'big.bin'), 'version https://git-lfs.host.example/spec/v1\noid sha256:0\nsize 1\n')
    git('add', '--all')
    git('update-index', '--add', '--cacheinfo', `160000,${'1'.repeat(40)},vendor/sub`)
    git('commit', '--quiet', '--message=x')
    const { tarball, warnings } = await fromGit(`git+file://${repository}`, git('rev-parse', 'HEAD'), MAX)
    expect(Object.keys(filesOf(tarball)).sort()).toEqual(['package/big.bin', 'package/package.json'])
    expect(warnings).toEqual([
      'has submodules, which are left out: vendor/sub',
      'has files that Git LFS keeps, of which only the pointers are taken: big.bin',
    ])
  })

  test('of a repository with sha256 names is fetched as well', async () => {
    rmSync(repository, { recursive: true })
    git('init', '--quiet', '--initial-branch=main', '--object-format=sha256', repository)
    const id = commit({ 'package.json': MANIFEST })
    expect(id).toHaveLength(64)
    expect(Object.keys(filesOf((await fromGit(`git+file://${repository}`, id, MAX)).tarball))).toEqual([
      'package/package.json',
    ])
  })

  test('that is not there is refused, with what git says', async () => {
    commit({ 'package.json': MANIFEST })
    const { code, message } = await refusal(fromGit(`git+file://${repository}`, '1'.repeat(40), MAX))
    expect([code, message]).toEqual([
      'FETCH_FAILED',
      expect.stringMatching(/could not fetch it from file:.* not our ref/),
    ])
  })

  test('without a manifest, with a broken one, or too large is refused', async () => {
    const without = commit({ 'a.js': 'a' })
    expect(await refusal(fromGit(`git+file://${repository}`, without, MAX))).toMatchObject({ code: 'MANIFEST_INVALID' })
    const broken = commit({ 'package.json': '{' })
    expect(await refusal(fromGit(`git+file://${repository}`, broken, MAX))).toMatchObject({ code: 'MANIFEST_INVALID' })
    const large = commit({ 'package.json': MANIFEST, 'large.txt': 'x'.repeat(5000) })
    expect(await refusal(fromGit(`git+file://${repository}`, large, 4096))).toMatchObject({
      code: 'ARCHIVE_REFUSED',
      message: 'the commit has 5032 bytes, and at most 4096 are accepted',
    })
  })

  test('whose tree no client of git would make is refused', async () => {
    const blob = execFileSync('git', ['-C', repository, 'hash-object', '-w', '--stdin'], {
      input: 'x',
      encoding: 'utf8',
    }).trim()
    /** A tree as bytes, since `git mktree` refuses what this has. */
    const tree = (entries: readonly (readonly [string, string])[]): string => {
      const body = Buffer.concat(
        entries.map(([name, object]) => Buffer.concat([Buffer.from(`100644 ${name}\0`), Buffer.from(object, 'hex')])),
      )
      const args = ['-C', repository, 'hash-object', '-t', 'tree', '-w', '--stdin', '--literally']
      return execFileSync('git', args, { input: body, encoding: 'utf8' }).trim()
    }
    for (const names of [['a', 'a'], ['../evil'], ['..'], ['a\\b']]) {
      const id = git('commit-tree', '-m', 'x', tree(names.map((name) => [name, blob])))
      git('update-ref', 'refs/heads/evil', id)
      const { code } = await refusal(fromGit(`git+file://${repository}`, id, MAX))
      expect(code, names.join()).toBe('ARCHIVE_REFUSED')
    }
    expect(existsSync(join(directory, 'evil'))).toBe(false)
  })

  test('leaves nothing behind in the temporary directory', async () => {
    vi.stubEnv('TMPDIR', join(directory, 'tmp'))
    mkdirSync(join(directory, 'tmp'))
    const id = commit({ 'package.json': MANIFEST })
    await fromGit(`git+file://${repository}`, id, MAX)
    await refusal(fromGit(`git+file://${repository}`, '2'.repeat(40), MAX))
    expect(readdirSync(join(directory, 'tmp'))).toEqual([])
  })
})

describe('what git is not asked for', () => {
  test.each([
    'ext::sh -c touch% /tmp/x',
    'git+ext::sh -c x',
    'git://host.example/a.git',
    '--upload-pack=touch /tmp/x',
    'ssh://-oProxyCommand=x/a.git',
    '-oProxyCommand=x@host:a',
    'fd::17',
    '/etc',
    '../repository',
  ])('%s', async (url) => {
    expect(await refusal(fromGit(url, '1'.repeat(40), MAX))).toMatchObject({ code: 'SOURCE_UNSUPPORTED' })
  })

  test("a protocol that the user's configuration turns an address into", async () => {
    const id = commit({ 'package.json': MANIFEST })
    writeFileSync(
      join(directory, '.gitconfig'),
      `[url "ext::sh -c touch% ${directory}/ran% "]\n\tinsteadOf = file://\n`,
    )
    const { code, message } = await refusal(fromGit(`git+file://${repository}`, id, MAX))
    expect([code, message]).toEqual(['FETCH_FAILED', expect.stringContaining("transport 'ext' not allowed")])
    expect(existsSync(join(directory, 'ran'))).toBe(false)
  })
})

test('without git on the path, that is what is said', async () => {
  vi.stubEnv('PATH', directory)
  expect(await refusal(fromGit('git+https://host.example/a.git', '1'.repeat(40), MAX))).toMatchObject({
    code: 'FETCH_FAILED',
    message: 'it comes from a git repository, and there is no `git` on the path',
    details: { hint: 'install git, or depend on a published version or a tarball of it' },
  })
})

describe('over HTTP', () => {
  /** Git's own server program, behind a login if there is one. */
  async function serve(login?: string): Promise<string> {
    const backend = join(execFileSync('git', ['--exec-path'], { encoding: 'utf8' }).trim(), 'git-http-backend')
    const server: Server = createServer((request, response) => {
      const { pathname, search } = new URL(request.url ?? '/', 'http://127.0.0.1')
      if (login !== undefined && request.headers.authorization !== `Basic ${Buffer.from(login).toString('base64')}`) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end()
        return
      }
      const child = spawn(backend, {
        env: {
          PATH: process.env['PATH'],
          HOME: directory,
          GIT_PROJECT_ROOT: directory,
          GIT_HTTP_EXPORT_ALL: '1',
          GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
          PATH_INFO: pathname,
          QUERY_STRING: search.slice(1),
          REQUEST_METHOD: request.method,
          CONTENT_TYPE: request.headers['content-type'] ?? '',
          HTTP_CONTENT_ENCODING: String(request.headers['content-encoding'] ?? ''),
          REMOTE_ADDR: '127.0.0.1',
        },
      })
      request.pipe(child.stdin)
      const chunks: Buffer[] = []
      child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
      child.once('close', () => {
        const answer = Buffer.concat(chunks)
        const end = answer.indexOf('\r\n\r\n')
        const headers = answer
          .toString('latin1', 0, end)
          .split('\r\n')
          .map((line) => line.split(': '))
        const status = headers.find(([name]) => name === 'Status')?.[1]?.slice(0, 3) ?? '200'
        response.writeHead(
          Number(status),
          Object.fromEntries(headers.filter(([name]) => name !== 'Status')) as Record<string, string>,
        )
        response.end(answer.subarray(end + 4))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/repository/.git`
  }

  test('a commit is fetched that no branch leads to', async () => {
    const id = commit({ 'package.json': MANIFEST, 'index.js': 'old\n' })
    git('commit', '--quiet', '--amend', '--message=other')
    const { tarball } = await fromGit(`git+${await serve()}`, id, MAX)
    expect(filesOf(tarball)).toMatchObject({ 'package/index.js': 'old\n' })
  })

  test("the user's credential helper is asked, and nobody else", async () => {
    const id = commit({ 'package.json': MANIFEST })
    const url = await serve('me:secret')
    const { code, message } = await refusal(fromGit(url, id, MAX))
    expect([code, message]).toEqual(['FETCH_FAILED', expect.stringContaining('terminal prompts disabled')])
    writeFileSync(
      join(directory, '.gitconfig'),
      '[credential]\n\thelper = "!f() { echo username=me; echo password=secret; }; f"\n',
    )
    expect(Object.keys(filesOf((await fromGit(url, id, MAX)).tarball))).toEqual(['package/package.json'])
  })

  test('a password in an address is in no message', async () => {
    const url = (await serve('me:secret')).replace('http://', 'http://me:wrong@')
    const { message, details } = await refusal(fromGit(url, '1'.repeat(40), MAX))
    expect(`${message} ${JSON.stringify(details)}`).not.toContain('wrong')
  })
})

describe('index sync', () => {
  let store: Store
  beforeEach(() => {
    store = openStore(join(directory, 'store'))
  })

  const options = (): SyncOptions => ({
    root: directory,
    npm: () => Promise.reject(new Error('no registry is needed for a commit')),
  })

  function pinOf(id: string): PinRequest {
    const url = `git+file://${repository}`
    const reference = `${url}#${id}`
    return {
      id: packageId('lib', reference),
      name: 'lib',
      reference,
      integrity: null,
      source: { kind: 'git', url, commit: id },
      neededBy: ['services/web'],
      optional: false,
    }
  }

  test('pins a commit once, by a hash of its own, and needs no git after that', async () => {
    const request = pinOf(commit({ 'package.json': MANIFEST, 'index.js': 'x\n' }))
    const report = await syncPins(store, [request], options())
    expect(report.failures).toEqual([])
    const pinned = report.pinned.get(request.id)
    expect(pinned).toMatchObject({ manifest: { name: 'lib', version: '1.2.3' }, needsBuild: false })
    rmSync(repository, { recursive: true })
    vi.stubEnv('PATH', directory)
    const again = readPinned(store, [request])
    expect(again.missing).toEqual([])
    expect(again.pinned.get(request.id)?.integrity).toBe(pinned?.integrity)
    const other = openStore(join(directory, 'other'))
    expect((await syncPins(other, [request], options())).failures).toMatchObject([
      { code: 'FETCH_FAILED', details: { spec: request.id } },
    ])
  })

  test('marks what npm would have prepared as not built', async () => {
    const request = pinOf(
      commit({ 'package.json': JSON.stringify({ name: 'lib', version: '1.0.0', scripts: { prepare: 'tsc' } }) }),
    )
    const { pinned } = await syncPins(store, [request], options())
    const described = pinned.get(request.id)
    expect(described?.needsBuild).toBe(true)
    expect(readArtifact(store, described?.integrity ?? ('' as never), 'lib').length).toBeGreaterThan(0)
    expect(readFileSync(join(directory, 'store/layout'), 'utf8')).not.toBe('')
  })
})
