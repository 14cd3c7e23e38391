import { spawn } from 'node:child_process'
import { chmodSync, cpSync, existsSync, lstatSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { afterAll } from 'vitest'

/** The real command line in a real process. */
export const POLDER: string = fileURLToPath(new URL('../../packages/cli/bin/polder.mjs', import.meta.url))
const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url))
/** pnpm and the Node that polder pins. */
export const TOOLS: string = fileURLToPath(new URL('../../tools/node_modules/.bin/', import.meta.url))

export interface Finished {
  /** null if a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Invocation {
  readonly cwd: string
  /** `POLDER_HOME`: the store. */
  readonly home: string
  readonly env?: Readonly<Record<string, string>>
  /** The user's own npm configuration counts: needed where pins come from the registry that it names. */
  readonly upstream?: boolean
  /** Words in front of the command, such as those of `networkCut`. */
  readonly inside?: readonly string[]
  /** Options for Node, such as `--import`. */
  readonly nodeOptions?: readonly string[]
}

/** Runs `polder ARGS` to its end. Nothing of the environment it is tested in shows through. */
export function polder(
  args: readonly string[],
  { inside = [], nodeOptions = [], ...invocation }: Invocation,
): Promise<Finished> {
  const [program = process.execPath, ...rest] = [...inside, process.execPath, ...nodeOptions, POLDER, ...args]
  return finish(program, rest, { cwd: invocation.cwd, env: scrubbedEnvironment(invocation) })
}

/** As `polder`, with the output as the error of one that does not end with exit code 0. */
export async function polderDone(args: readonly string[], invocation: Invocation): Promise<string> {
  const { code, stdout, stderr } = await polder(args, invocation)
  if (code !== 0) throw new Error(`polder ${args.join(' ')} ended with ${code}\n${stdout}${stderr}`)
  return stdout
}

/** The arguments for a `spawn` of one's own, to kill it for example. */
export function polderCommand(
  args: readonly string[],
  invocation: Invocation,
): { program: string; args: string[]; env: NodeJS.ProcessEnv } {
  return { program: process.execPath, args: [POLDER, ...args], env: scrubbedEnvironment(invocation) }
}

/** Any other program, to its end. */
export function finish(
  program: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env: NodeJS.ProcessEnv },
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []]
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.once('error', reject)
    child.once('close', (code) => {
      resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() })
    })
  })
}

const KEPT = ['LANG', 'TMPDIR', 'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR']
const PROXIES = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy']

/** A home and a store of its own, this Node first on the path, and no `npm_config_*`, `NPM_*`, `CI`, `NODE_OPTIONS`. */
export function scrubbedEnvironment({
  home,
  env = {},
  upstream = false,
}: Pick<Invocation, 'home' | 'env' | 'upstream'>): NodeJS.ProcessEnv {
  const user = userHome()
  const own = (names: readonly string[]): Record<string, string> =>
    Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])))
  const npmrc = join(homedir(), '.npmrc')
  const npm = upstream
    ? {
        ...own(PROXIES),
        ...(existsSync(npmrc) ? { NPM_CONFIG_USERCONFIG: npmrc } : {}),
        ...own(
          Object.keys(process.env).filter((name) =>
            /^npm_config_(userconfig|globalconfig|registry|cafile|strict_ssl|(https_|no)?proxy)$/i.test(name),
          ),
        ),
      }
    : {}
  return {
    ...own(KEPT),
    PATH: [dirname(process.execPath), process.env['PATH'] ?? ''].join(delimiter),
    HOME: user,
    XDG_DATA_HOME: join(user, '.local', 'share'),
    XDG_CACHE_HOME: join(user, '.cache'),
    XDG_CONFIG_HOME: join(user, '.config'),
    XDG_STATE_HOME: join(user, '.local', 'state'),
    POLDER_HOME: home,
    ...npm,
    ...env,
  }
}

const made: string[] = []
let madeHome: string | undefined

/** One empty home directory for all tests of a file. */
function userHome(): string {
  return (madeHome ??= temporaryDirectory('user'))
}

/** Removed when the tests of the file are done. */
export function temporaryDirectory(name: string): string {
  const path = mkdtempSync(join(tmpdir(), `polder-e2e-${name}-`))
  made.push(path)
  return path
}

/** A copy of `examples/NAME` as `git clone` would give it: nothing that an installation left. */
export function copyExample(name: string): string {
  return copyRepository(join(EXAMPLES, name))
}

/** A writable copy of a directory, without what an installation left in it. */
export function copyRepository(source: string): string {
  const target = join(temporaryDirectory(basename(source)), basename(source))
  cpSync(source, target, {
    recursive: true,
    filter: (path) => !['node_modules', '.polder', '.git'].includes(basename(path)) && basename(path) !== 'polder.lock',
  })
  makeWritable(target)
  return target
}

function makeWritable(path: string): void {
  const entry = lstatSync(path)
  if (entry.isSymbolicLink()) return
  chmodSync(path, entry.mode | 0o200)
  if (entry.isDirectory()) for (const name of readdirSync(path)) makeWritable(join(path, name))
}

afterAll(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true })
  madeHome = undefined
  // A store of thousands of packages takes long to remove from a busy disk.
}, 600_000)
