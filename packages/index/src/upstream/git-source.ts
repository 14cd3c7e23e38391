import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { isErrno, PolderError } from '@polder/spec'

import { redactUrl } from './npm-config.ts'

/** A commit as a package's tarball. */
export interface PackedCommit {
  readonly tarball: Buffer
  /** What of the commit is not in it, as ends of sentences that begin with the package. */
  readonly warnings: readonly string[]
}

/** Also what a url in a lockfile may name; anything else (`ext::`, `fd::`, an own remote helper) could run a program. */
const PROTOCOLS = ['https', 'http', 'ssh', 'file']
const TIMEOUT_MS = 10 * 60_000

/**
 * Fetches exactly one commit with the user's `git`, with their configuration and credentials but never asking for any,
 * and packs what npm would publish of it, or all of it where scripts have to run before that. Nothing is checked out: no hook, filter, attribute, line end conversion,
 * submodule or LFS object takes part, so the same commit gives the same bytes on every machine. No script is run.
 * @param url as in a lockfile: `git+https://…`, `git+ssh://…`, `git+file:///…`, `https://….git`, `git@host:path`
 * @param path the directory of the commit that is the package; all of it if there is none
 * @throws PolderError `FETCH_FAILED`; `SOURCE_UNSUPPORTED` for other protocols; `ARCHIVE_REFUSED`; `MANIFEST_INVALID`
 */
export async function fromGit(url: string, commit: string, maxBytes: number, path?: string): Promise<PackedCommit> {
  const address = gitAddress(url)
  const directory = mkdtempSync(join(tmpdir(), 'polder-git-'))
  try {
    const repository = join(directory, 'repository')
    const git = new Git(repository, address, maxBytes)
    await git.run([
      'init',
      '--quiet',
      '--bare',
      '--template=',
      `--object-format=${commit.length === 64 ? 'sha256' : 'sha1'}`,
      repository,
    ])
    await fetchCommit(git, address, commit)
    const files = join(directory, 'files')
    const tree = path === undefined ? commit : await subtree(git, commit, path)
    const warnings = await writeFiles(git, tree, files, maxBytes)
    const { packCommit } = await import('../pins/pack.ts')
    return {
      tarball: await packCommit(
        files,
        `package.json of ${redactUrl(address)}#${commit}${path === undefined ? '' : `&path:${path}`}`,
      ),
      warnings,
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** What git takes: without npm's `git+`, and nothing that it would read as an option or as another program. */
function gitAddress(url: string): string {
  const address = url.replace(/^git\+/, '')
  const isScpLike = /^[\w.-]+@[\w.-]+:(?!\/\/)[^\s]+$/.test(address) && !address.startsWith('-')
  const protocol = /^([a-z]+):\/\/[^\s-]/i.exec(address)?.[1]?.toLowerCase()
  if (isScpLike || (protocol !== undefined && PROTOCOLS.includes(protocol))) return address
  throw new PolderError('SOURCE_UNSUPPORTED', `git is not asked for ${redactUrl(url)}`, {
    found: protocol ?? redactUrl(url),
    wanted: PROTOCOLS.join(', '),
    hint: 'commits can come over https, http, ssh, or from a repository on this machine (git+file:///…)',
  })
}

async function fetchCommit(git: Git, address: string, commit: string): Promise<void> {
  await git.readSshCommand()
  const fetch = ['fetch', '--quiet', '--no-tags', '--no-recurse-submodules', '--no-write-fetch-head']
  try {
    await git.run([...fetch, '--depth=1', '--', address, commit])
  } catch (error) {
    if (!(error instanceof PolderError)) throw error
    // Old servers give only what a branch or a tag names: then all of them, and the commit among them.
    try {
      await git.run([...fetch, '--', address, '+refs/heads/*:refs/all/heads/*', '+refs/tags/*:refs/all/tags/*'])
      await git.run(['cat-file', '-e', commit])
    } catch {
      throw error
    }
  }
  // Git names objects by their contents, so what it has under this name is the commit; it is cheap not to rely on that.
  const content = await git.run(['cat-file', 'commit', commit])
  const algorithm = commit.length === 64 ? 'sha256' : 'sha1'
  const found = createHash(algorithm).update(`commit ${content.length}\0`).update(content).digest('hex')
  if (found !== commit) {
    throw new PolderError('INTEGRITY_MISMATCH', `git gave another commit than ${commit}`, { found, wanted: commit })
  }
}

interface TreeEntry {
  readonly path: string
  readonly mode: string
  readonly object: string
  readonly size: number
}

/** The id of a directory's tree, found without asking git to read the path as anything but a path. */
async function subtree(git: Git, commit: string, path: string): Promise<string> {
  const listed = (await git.run(['ls-tree', '-z', '--full-tree', commit, '--', `:(literal)${path}`])).toString('utf8')
  const [, tree] = /^040000 tree ([0-9a-f]+)\t/.exec(listed) ?? []
  if (tree !== undefined) return tree
  throw new PolderError('FETCH_FAILED', `the commit has no directory ${JSON.stringify(path)}`, { path })
}

/** The plain files of a tree, as they are in it. */
async function writeFiles(git: Git, tree: string, directory: string, maxBytes: number): Promise<string[]> {
  const listed = (await git.run(['ls-tree', '-r', '-z', '-l', '--full-tree', tree])).toString('utf8')
  const entries = listed.split('\0').flatMap((line): TreeEntry[] => {
    const [, mode, object, size, path] = /^(\d+) \w+ ([0-9a-f]+) +(\d+|-)\t(.*)$/s.exec(line) ?? []
    return mode === undefined || object === undefined || path === undefined
      ? []
      : [{ mode, object, path, size: Number(size) }]
  })
  const files = entries.filter(({ mode }) => mode === '100644' || mode === '100755' || mode === '100664')
  const total = files.reduce((sum, { size }) => sum + size, 0)
  if (total > maxBytes)
    throw new PolderError('ARCHIVE_REFUSED', `the commit has ${total} bytes, and at most ${maxBytes} are accepted`)
  const contents = await git.run(['cat-file', '--batch'], files.map(({ object }) => `${object}\n`).join(''))
  mkdirSync(directory)
  const lfs: string[] = []
  let at = 0
  for (const { path, mode, object, size } of files) {
    refuseStrangePath(path)
    const start = contents.indexOf(0x0a, at) + 1
    if (contents.toString('latin1', at, start) !== `${object} blob ${size}\n`)
      throw new PolderError('FETCH_FAILED', `git has no contents of ${JSON.stringify(path)}`)
    const body = contents.subarray(start, start + size)
    at = start + size + 1
    if (size < 1024 && body.toString('latin1', 0, 23) === 'version https://git-lfs') lfs.push(path)
    writePlainFile(directory, path, body, mode === '100755' ? 0o755 : 0o644)
  }
  const submodules = entries.filter(({ mode }) => mode === '160000').map(({ path }) => path)
  return [
    ...(submodules.length === 0 ? [] : [`has submodules, which are left out: ${submodules.join(', ')}`]),
    ...(lfs.length === 0
      ? []
      : [`has files that Git LFS keeps, of which only the pointers are taken: ${lfs.join(', ')}`]),
  ]
}

function writePlainFile(directory: string, path: string, body: Buffer, mode: number): void {
  try {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), body, { mode, flag: 'wx' })
  } catch (cause) {
    if (!isErrno(cause, 'EEXIST', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG')) throw cause
    throw new PolderError(
      'ARCHIVE_REFUSED',
      `the commit has ${JSON.stringify(path)}, which cannot stand beside its other files (${cause.code ?? ''})`,
      { cause },
    )
  }
}

/** Git itself refuses to make such trees, and to check them out; whoever serves one means harm. */
function refuseStrangePath(path: string): void {
  const names = path.split('/')
  const strange =
    path.startsWith('/') ||
    /[\\\0-\x1f\x7f]/.test(path) ||
    names.some((name) => name === '' || name === '.' || name === '..')
  if (!strange) return
  throw new PolderError('ARCHIVE_REFUSED', `the commit has a file ${JSON.stringify(path)}, which no package may have`)
}

/** Runs `git` with the user's configuration, but without anything that asks, runs other programs, or writes elsewhere. */
class Git {
  readonly #repository: string
  readonly #address: string
  readonly #maxBytes: number
  #sshCommand: string | undefined = process.env['GIT_SSH_COMMAND']

  constructor(repository: string, address: string, maxBytes: number) {
    this.#repository = repository
    this.#address = address
    this.#maxBytes = maxBytes
  }

  /** The user's own command stays as it is; the usual one is kept from asking for passwords and host keys. */
  async readSshCommand(): Promise<void> {
    if (this.#sshCommand !== undefined) return
    const configured = await this.run(['config', '--get', 'core.sshCommand']).catch(() => null)
    this.#sshCommand = configured === null ? 'ssh -o BatchMode=yes' : configured.toString('utf8').trim()
  }

  /** @returns what it writes; `FETCH_FAILED` with what it says if it fails */
  run(args: readonly string[], input = ''): Promise<Buffer> {
    const inRepository = args[0] === 'init' ? [] : ['--git-dir', this.#repository]
    const child = spawn('git', [...inRepository, ...SETTINGS.flatMap((setting) => ['-c', setting]), ...args], {
      cwd: tmpdir(),
      env: {
        ...gitEnvironment(process.env),
        ...(this.#sshCommand === undefined ? {} : { GIT_SSH_COMMAND: this.#sshCommand }),
      },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
    })
    return new Promise((resolve, reject) => {
      const [output, errors]: [Buffer[], Buffer[]] = [[], []]
      let bytes = 0
      child.stdout.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > this.#maxBytes * 2 + 1024 * 1024) child.kill()
        else output.push(chunk)
      })
      child.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
      // A git that ended early has said why.
      child.stdin.on('error', () => undefined)
      child.stdin.end(input)
      child.once('error', (cause) => reject(this.#notStarted(cause)))
      child.once('close', (code, signal) => {
        if (code === 0) resolve(Buffer.concat(output))
        else reject(this.#failed(Buffer.concat(errors).toString('utf8'), signal))
      })
    })
  }

  #notStarted(cause: Error): PolderError {
    if (!isErrno(cause, 'ENOENT'))
      return new PolderError('FETCH_FAILED', `git cannot be started: ${cause.message}`, { cause })
    return new PolderError('FETCH_FAILED', 'it comes from a git repository, and there is no `git` on the path', {
      cause,
      hint: 'install git, or depend on a published version or a tarball of it',
    })
  }

  #failed(stderr: string, signal: NodeJS.Signals | null): PolderError {
    const said = stderr
      .replaceAll(this.#address, redactUrl(this.#address))
      .split('\n')
      .filter((line) => /^(?:fatal|error|remote|ssh):/.test(line))
    const why = said.at(0) ?? (signal === null ? 'it does not say why' : `it was ended by ${signal}`)
    return new PolderError('FETCH_FAILED', `git could not fetch it from ${redactUrl(this.#address)}: ${why}`, {
      hint: 'see that `git fetch` of this commit works without a prompt; `git config url.<base>.insteadOf` sends it elsewhere',
    })
  }
}

const SETTINGS = [
  'core.hooksPath=/dev/null',
  'core.fsmonitor=false',
  'core.quotePath=false',
  'credential.interactive=false',
  'fetch.recurseSubmodules=false',
  'gc.auto=0',
  'maintenance.auto=false',
  'protocol.version=2',
]

/** The user's, without what belongs to a repository that polder may have been started in (by a hook, for example). */
function gitEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const own =
    /^GIT_(?:DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|NAMESPACE|PREFIX|QUARANTINE_PATH)$/
  return {
    ...Object.fromEntries(Object.entries(environment).filter(([name]) => !own.test(name))),
    GIT_ALLOW_PROTOCOL: PROTOCOLS.join(':'),
    GIT_TERMINAL_PROMPT: '0',
    // Set and empty: no program is asked, and no terminal.
    GIT_ASKPASS: '',
    SSH_ASKPASS_REQUIRE: 'never',
    GIT_LFS_SKIP_SMUDGE: '1',
    LC_ALL: 'C',
  }
}
