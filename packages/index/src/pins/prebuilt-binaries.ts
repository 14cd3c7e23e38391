import type { Platform } from '@polder/spec'

/** A file that an install script will fetch, as far as the package says which. */
export interface PrebuiltBinary {
  readonly url: string
  /** The variable that sends its program elsewhere. */
  readonly variable: string
  /** What of the URL that takes the place of. */
  readonly base: string
}

/** The Node that a binary is for. */
export interface NodeAbi {
  /** `process.versions.modules` */
  readonly modules: string
  /** `process.versions.napi` */
  readonly napi: number
}

/** A package.json, as it came: nothing in it can be relied upon. */
export type RawManifest = Readonly<Record<string, unknown>>

/**
 * What prebuild-install or node-pre-gyp will ask for, on behalf of a package.
 * @param script its install scripts, one text
 * @returns undefined if neither is called, or what is asked for does not follow from the manifest
 */
export function prebuiltBinary(
  manifest: RawManifest,
  script: string,
  platform: Platform,
  node: NodeAbi,
): PrebuiltBinary | undefined {
  const found = /prebuild-install/.test(script)
    ? byPrebuildInstall(manifest, script, platform, node)
    : /node-pre-gyp/.test(script)
      ? byNodePreGyp(manifest, platform, node)
      : undefined
  const url = URL.parse(found?.url ?? '')
  if (found === undefined || url === null || !/^https?:$/.test(url.protocol) || /[{}]|%7B|%7D/i.test(found.url))
    return undefined
  return { ...found, url: url.href }
}

/** Whether a script compiles what it cannot fetch. */
export function compilesOtherwise(script: string): boolean {
  return /prebuild-install[^&;]*\|\||node-pre-gyp[^&;]*(?:--fallback-to-build|\|\|)/.test(script)
}

/** prebuild-install 7.1.3: its rc.js and util.js, github-from-package 0.0.0, napi-build-utils 2.0.0. */
function byPrebuildInstall(
  manifest: RawManifest,
  script: string,
  { os, cpu, libc }: Platform,
  node: NodeAbi,
): PrebuiltBinary | undefined {
  const { name, version } = identity(manifest)
  const { binary, config } = sections(manifest)
  const options = (/prebuild-install([^|&;]*)/.exec(script)?.[1] ?? '').trim().split(/\s+/)
  const option = (...names: readonly string[]): string | undefined => {
    for (const [at, word] of options.entries()) {
      if (names.includes(word)) return options[at + 1]
      const long = names.find((one) => word.startsWith(`${one}=`))
      if (long !== undefined) return word.slice(long.length + 1)
    }
    return undefined
  }
  const runtime = option('-r', '--runtime') ?? text(config['runtime']) ?? 'node'
  const target = option('-t', '--target') ?? number(config['target'])
  // From another place, or for another Node than the one that runs: nothing that can be told from here.
  const elsewhere = option('-d', '--download', '-p', '--path', '-a', '--arch')
  if (name === undefined || version === undefined || elsewhere !== undefined) return undefined
  const abi =
    runtime === 'napi'
      ? (target ?? bestNapi(binary, node))
      : runtime === 'node' && target === undefined
        ? node.modules
        : undefined
  if (abi === undefined) return undefined
  const plain = name.replace(/^@[\w\-.~]+\//, '')
  const tag = `${option('--tag-prefix') ?? 'v'}${version}`
  const file = `${plain}-v${version}-${runtime}-v${abi}-${os}${libc === 'musl' ? libc : ''}-${cpu}.tar.gz`
  const variable = `npm_config_${name.replace(/[^a-zA-Z0-9]/g, '_').replace(/^_/, '')}_binary_host_mirror`
  const host = text(binary['host'])
  if (host === undefined) {
    const repository = gitHubRepository(manifest)
    if (repository === undefined) return undefined
    const base = `${repository}/releases/download`
    return { url: `${base}/${tag}/${file}`, variable, base }
  }
  const remote = text(binary['remote_path'])
  const parts = [host, remote, text(binary['package_name']) ?? file]
  const values = {
    name: plain,
    package_name: plain,
    version,
    abi,
    node_abi: node.modules,
    runtime,
    platform: os,
    arch: cpu,
    libc: libc === 'musl' ? libc : '',
    configuration: 'Release',
    module_name: text(binary['module_name']) ?? '',
    tag_prefix: option('--tag-prefix') ?? 'v',
  }
  const url = filled(
    parts
      .map((part) => part?.replace(/^\.\/|^\/|\/$/g, ''))
      .filter(Boolean)
      .join('/'),
    values,
  )
  // Through a mirror it asks for the same only if that has the form of a release.
  const end = `/${tag}/${file}`
  return url.endsWith(end) ? { url, variable, base: url.slice(0, -end.length) } : undefined
}

/** @mapbox/node-pre-gyp 2.0.3 (and node-pre-gyp 0.17): lib/util/versioning.js, napi.js. */
function byNodePreGyp(manifest: RawManifest, { os, cpu, libc }: Platform, node: NodeAbi): PrebuiltBinary | undefined {
  const { name, version } = identity(manifest)
  const { binary } = sections(manifest)
  const [host, moduleName] = [text(binary['host']), text(binary['module_name'])]
  if (name === undefined || version === undefined || host === undefined || moduleName === undefined) return undefined
  const napi = bestNapi(binary, node)
  if (Array.isArray(binary['napi_versions']) && napi === undefined) return undefined
  const [major = '', minor = '', patch = ''] = version.split(/[-+]/, 1)[0]?.split('.') ?? []
  const values = {
    name,
    configuration: 'Release',
    module_name: moduleName,
    version: version.split('+', 1)[0] ?? '',
    prerelease: /-([^+]+)/.exec(version)?.[1] ?? '',
    build: /\+(.+)/.exec(version)?.[1] ?? '',
    major,
    minor,
    patch,
    runtime: 'node',
    node_abi: `node-v${node.modules}`,
    node_abi_napi: 'napi',
    napi_version: String(node.napi),
    napi_build_version: napi ?? '',
    node_napi_label: napi === undefined ? `node-v${node.modules}` : `napi-v${napi}`,
    target: '',
    platform: os,
    target_platform: os,
    arch: cpu,
    target_arch: cpu,
    libc: libc ?? 'unknown',
    toolset: '',
    bucket: text(binary['bucket']) ?? '',
    region: text(binary['region']) ?? '',
  }
  const base = URL.parse(slashed(filled(host, values)))
  if (base === null) return undefined
  const remote = text(binary['remote_path'])
  const path = remote === undefined ? '' : slashed(filled(remote, values)).replaceAll('//', '/')
  const bucket = binary['s3ForcePathStyle'] === true ? `${values.bucket}/` : ''
  const file = filled(
    text(binary['package_name']) ?? '{module_name}-v{version}-{node_abi}-{platform}-{arch}.tar.gz',
    values,
  )
  const directory = URL.parse(`${bucket}${path}`, base.href)
  const url = directory === null ? null : URL.parse(file, directory.href)
  if (url === null) return undefined
  const variable = `npm_config_${moduleName.replace('-', '_')}_binary_host_mirror`
  return /^\w+$/.test(variable) ? { url: url.href, variable, base: base.href.replace(/\/$/, '') } : undefined
}

function identity({ name, version }: RawManifest): { readonly name?: string; readonly version?: string } {
  const [plainName, plainVersion] = [text(name), text(version)]
  return {
    ...(plainName === undefined ? {} : { name: plainName }),
    ...(plainVersion === undefined ? {} : { version: plainVersion }),
  }
}

function sections({ binary, config }: RawManifest): { readonly binary: RawManifest; readonly config: RawManifest } {
  return { binary: isRecord(binary) ? binary : {}, config: isRecord(config) ? config : {} }
}

/** The newest version of Node-API that the package has binaries for and this Node knows. */
function bestNapi({ napi_versions: versions }: RawManifest, { napi }: NodeAbi): string | undefined {
  const known = Array.isArray(versions) ? versions.map(Number).filter((one) => one > 0 && one <= napi) : []
  return known.length === 0 ? undefined : String(Math.max(...known))
}

/** The first in `repository`, or else anywhere in the manifest. */
function gitHubRepository(manifest: RawManifest): string | undefined {
  for (const where of [manifest['repository'], manifest]) {
    const [, owner, name] = /\bgithub\.com[:/]([\w.-]+)\/([\w.-]+)/.exec(JSON.stringify(where ?? '')) ?? []
    if (owner !== undefined && name !== undefined) return `https://github.com/${owner}/${name.replace(/\.git$/, '')}`
  }
  return undefined
}

function filled(template: string, values: Readonly<Record<string, string>>): string {
  return template.replaceAll(/\{(\w+)\}/g, (whole, name: string) =>
    Object.hasOwn(values, name) ? (values[name] ?? '') : whole,
  )
}

function slashed(text: string): string {
  return text.endsWith('/') ? text : `${text}/`
}

function isRecord(value: unknown): value is RawManifest {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** As a word of a command line would have it. */
function number(value: unknown): string | undefined {
  return typeof value === 'number' || typeof value === 'string' ? String(value) : undefined
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
