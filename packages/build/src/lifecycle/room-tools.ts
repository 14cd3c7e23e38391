import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import type { Toolchain } from './toolchain.ts'
import type { Mount } from '../sandbox/file-system.ts'

/** Where the toolchain is for a build. */
export interface SeenPrograms {
  readonly node: string
  /** What node-gyp calls `nodedir`: the directory that holds `include/node`. */
  readonly nodedir?: string
  readonly npm?: string
}

const NODEDIR = '/opt/node'
const NODE = `${NODEDIR}/bin/node`
const NPM = '/opt/npm'

/** Node, its headers and npm, where a confined build sees them. */
export function toolMounts({ node: { program, headers }, npm }: Toolchain): readonly Mount[] {
  return [
    { source: program, target: NODE },
    ...(headers === undefined ? [] : [{ source: headers, target: `${NODEDIR}/include/node` }]),
    ...(npm === undefined ? [] : [{ source: npm.directory, target: NPM }]),
  ]
}

export function seenPrograms({ node: { program, headers }, npm }: Toolchain, confined: boolean): SeenPrograms {
  return {
    node: confined ? NODE : program,
    ...(headers === undefined ? {} : { nodedir: confined ? NODEDIR : dirname(dirname(headers)) }),
    ...(npm === undefined ? {} : { npm: confined ? NPM : npm.directory }),
  }
}

/** The superuser's builds are another user, who could not look into it under a strict umask. */
export function makeDirectory(path: string): void {
  const made = mkdirSync(path, { recursive: true })
  for (let at = path; made !== undefined && at.length >= made.length; at = dirname(at)) chmodSync(at, 0o755)
}

/** Below the directory of commands: for what the system does not have, so it is looked for there last. */
export const INSTEAD = 'instead'

/** npm's own programs, for scripts that call them by name, and what runs a script for those that call another client. */
export function writeCommands(bin: string, { node, npm }: SeenPrograms): void {
  makeDirectory(bin)
  if (npm === undefined) return
  const scripts = {
    npm: 'bin/npm-cli.js',
    npx: 'bin/npx-cli.js',
    'node-gyp': 'node_modules/node-gyp/bin/node-gyp.js',
  }
  for (const [name, script] of Object.entries(scripts))
    writeCommand(join(bin, name), `exec ${quoted(node)} ${quoted(`${npm}/${script}`)} "$@"\n`)
  makeDirectory(join(bin, INSTEAD))
  for (const name of ['pnpm', 'yarn']) writeCommand(join(bin, INSTEAD, name), runsScripts(name, quoted(node)))
}

function writeCommand(path: string, body: string): void {
  writeFileSync(path, `#!/bin/sh\n${body}`, { mode: 0o755 })
  chmodSync(path, 0o755)
}

/** `"prepare": "pnpm build"` needs no pnpm: a script of package.json is run by npm, a command of a dependency by itself. */
function runsScripts(client: string, node: string): string {
  const scripts = 'JSON.parse(require("node:fs").readFileSync("package.json")).scripts ?? {}'
  return `while [ "$1" = -s ] || [ "$1" = --silent ]; do shift; done
case "$1" in
  run | run-script) shift ;;
  exec) shift; exec "$@" ;;
  '' | -* | install | i | add | remove | ci | dlx | create | publish | pack | workspace | workspaces)
    echo "polder: in a build there is no ${client} but to run scripts: ${client} run NAME" >&2
    exit 1 ;;
esac
name=$1
shift
if ${node} -e 'process.exit(Object.hasOwn(${scripts}, process.argv[1]) ? 0 : 1)' -- "$name"; then
  exec npm run --silent "$name" -- "$@"
fi
exec "$name" "$@"
`
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
