import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { homedir, hostname } from 'node:os'
import { dirname, join, resolve } from 'node:path'

/**
 * What must not stand in a file under version control: the host of a registry (everyone has their own; use
 * `registry.example` or loopback), and a path or the name of the machine it was written on.
 */
export function checkForbiddenText(root: string): readonly string[] {
  const problems: string[] = []
  const forbidden = patterns(root)
  for (const path of trackedFiles(root)) {
    const text = readText(join(root, path))
    if (text === undefined) continue
    for (const [number, line] of text.split('\n').entries()) {
      for (const { what, pattern } of forbidden) {
        const match = pattern.exec(line)
        if (match !== null) problems.push(`${path}:${number + 1}: ${what}: ${match[0]}`)
      }
    }
  }
  return problems
}

// Directories that every machine has: that a checkout stands in one of them makes it no name of this machine.
const ORDINARY = /^\/(?:tmp|home|srv|opt|usr|var|mnt|media|workspace|builds?|src|app)?(?:\/tmp)?$/

function patterns(root: string): readonly { readonly what: string; readonly pattern: RegExp }[] {
  // Put together from parts, so that this file passes its own check.
  const registries = ['npm' + 'js', 'yarn' + 'pkg', 'npm' + 'mirror', 'taobao'].join('|')
  const parent = dirname(resolve(root))
  const machine = [resolve(root), homedir(), ...(ORDINARY.test(parent) ? [] : [parent])].filter((path) => path !== '/')
  const configured = configuredRegistryHost()
  return [
    {
      what: 'host of a registry',
      pattern: new RegExp(`\\b(?:registry|r|npm)\\.(?:${registries})\\.(?:org|com|cn)\\b`),
    },
    ...(configured === undefined ? [] : [{ what: 'host of a registry', pattern: literal(configured) }]),
    ...machine.map((path) => ({
      what: 'path of this machine',
      pattern: new RegExp(`(?<![\\w.-])${RegExp.escape(path)}/[\\w.]`),
    })),
    // A container's host name of hex digits says nothing and may be part of a hash.
    ...(hostname().length > 8 && !/^[0-9a-f]+$/.test(hostname())
      ? [{ what: 'name of this machine', pattern: literal(hostname()) }]
      : []),
  ]
}

function configuredRegistryHost(): string | undefined {
  const url = process.env['npm_config_registry'] ?? process.env['NPM_CONFIG_REGISTRY']
  if (url === undefined || !URL.canParse(url)) return undefined
  const { hostname: host } = new URL(url)
  return ['localhost', '127.0.0.1', '[::1]'].includes(host) ? undefined : host
}

function literal(text: string): RegExp {
  return new RegExp(`(?<![\\w.-])${RegExp.escape(text)}(?![\\w-])`)
}

function trackedFiles(root: string): readonly string[] {
  // Files not yet added count too, so that the check speaks before the commit.
  return execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  })
    .split('\0')
    .filter((path) => path !== '')
}

/** Undefined for what is no text, and for a file that is deleted but still in the index. */
function readText(path: string): string | undefined {
  try {
    const bytes = readFileSync(path)
    return bytes.subarray(0, 8000).includes(0) ? undefined : bytes.toString('utf8')
  } catch {
    return undefined
  }
}
