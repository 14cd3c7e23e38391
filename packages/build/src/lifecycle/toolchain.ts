import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'

import { SYSTEM_PATH } from './toolchain-files.ts'

/** What builds are made with. The identity of it is part of the key of what they leave. */
export interface Toolchain {
  /** `linux-x64`. */
  readonly platform: string
  readonly node: {
    readonly version: string
    /** Node's ABI: `process.versions.modules`. */
    readonly abi: string
    readonly program: string
    /** Its `include/node`, where the installation has one: node-gyp needs it. */
    readonly headers?: string
  }
  /** The npm that scripts call, with the node-gyp that it brings along; absent if there is none. */
  readonly npm?: { readonly version: string; readonly directory: string }
  /** The first line of `c++ --version` and `python3 --version`; absent what is not installed. */
  readonly compiler?: string
  readonly python?: string
}

/** @param path where npm is looked for, a PATH */
export function readToolchain(path: string): Toolchain {
  const program = realpathSync(process.execPath)
  const headers = join(dirname(dirname(program)), 'include/node')
  const npm = findNpm(path)
  const tools = { compiler: versionOf('c++'), python: versionOf('python3') }
  return {
    platform: `${process.platform}-${process.arch}`,
    node: {
      version: process.version,
      abi: process.versions.modules,
      program,
      ...(existsSync(join(headers, 'node_version.h')) ? { headers } : {}),
    },
    ...(npm === undefined ? {} : { npm }),
    ...Object.fromEntries(Object.entries(tools).filter(([, found]) => found !== undefined)),
  }
}

/**
 * What of the toolchain shapes a build's output. Where nothing is compiled, another compiler makes no difference, so
 * that a machine without one can use what was built elsewhere.
 */
export function toolchainIdentity(
  { platform, node, compiler, python }: Toolchain,
  compiles: boolean,
): readonly string[] {
  const runtime = [platform, node.version, node.abi]
  return compiles ? [...runtime, compiler ?? '', python ?? ''] : runtime
}

function versionOf(program: string): string | undefined {
  const { status, stdout } = spawnSync(program, ['--version'], {
    encoding: 'utf8',
    env: { PATH: SYSTEM_PATH, LC_ALL: 'C' },
  })
  return status === 0 ? (stdout.split('\n', 1)[0] ?? '').trim() : undefined
}

/** The npm beside Node, or else the first on the path. */
function findNpm(path: string): Toolchain['npm'] {
  const beside = join(dirname(dirname(realpathSync(process.execPath))), 'lib/node_modules/npm')
  const others = [...path.split(delimiter), ...SYSTEM_PATH.split(delimiter)].map((directory) => join(directory, 'npm'))
  for (const candidate of [join(beside, 'bin/npm-cli.js'), ...others]) {
    try {
      // <directory>/bin/npm-cli.js
      const directory = dirname(dirname(realpathSync(candidate)))
      const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as Record<string, unknown>
      if (manifest['name'] === 'npm') return { version: String(manifest['version']), directory }
    } catch {
      // Not there, or not npm's own: a wrapper of a version manager.
    }
  }
  return undefined
}
