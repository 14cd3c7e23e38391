import type { Platform } from '@polder/spec'

/** A program that fetches files of its own while packages are built, and the variables that send it elsewhere. */
export interface Tool {
  /** What `--for` calls it: its package. */
  readonly name: string
  /** The end of its URLs' path and query, behind the base that the variables replace. */
  readonly tail: RegExp
  /** The base as the variable wants it: some append their path as it is. */
  readonly slash?: true
  readonly variables: (tail: RegExpExecArray) => readonly string[]
  /** What else it asks for beside this file, relative to it. */
  readonly also?: (tail: RegExpExecArray) => readonly string[]
  /** The end of the URL that a version of the package asks for, where that follows from nothing else. */
  readonly end?: (version: string, platform: Platform) => string | undefined
  /** What makes its package do without the file: a variable, and its value. */
  readonly without?: readonly [variable: string, value: string]
}

/**
 * Each row was read in the source of the version named; the shape of the path is what that version asks for. Hosts
 * don't matter: a mirror that keeps the shape is recognised like the original.
 */
export const TOOLS: readonly Tool[] = [
  {
    // 12.4.0: the preferred form since npm 11 refuses to know `disturl`; NODEJS_ORG_MIRROR is for older ones.
    name: 'node-gyp',
    tail: /\/v\d+\.\d+\.\d+[^/]*\/(?:node-v[^/]+-headers\.tar\.gz|win-[^/]+\/node\.lib|SHASUMS256\.txt)$/,
    variables: () => ['NODEJS_ORG_MIRROR', 'npm_package_config_node_gyp_disturl'],
    also: ([tail]) => (tail.endsWith('.tar.gz') ? ['SHASUMS256.txt'] : []),
  },
  {
    // @electron/get 3.1.0
    name: 'electron',
    tail: /\/v\d+\.\d+\.\d+[^/]*\/(?:electron-v[^/]+\.zip|SHASUMS256\.txt)$/,
    slash: true,
    variables: () => ['ELECTRON_MIRROR'],
    end: (version, { os, cpu }) => `/v${version}/electron-v${version}-${os}-${cpu === 'arm' ? 'armv7l' : cpu}.zip`,
    without: ['ELECTRON_SKIP_BINARY_DOWNLOAD', '1'],
  },
  {
    // puppeteer 24.43.1
    name: 'puppeteer',
    tail: /\/\d[\d.]+\/(?<folder>linux64|mac-x64|mac-arm64|win32|win64)\/(?<browser>chrome|chrome-headless-shell)-\k<folder>\.zip$/,
    variables: ({ groups }) => [
      `PUPPETEER_${(groups?.['browser'] ?? '').replaceAll('-', '_').toUpperCase()}_DOWNLOAD_BASE_URL`,
    ],
    without: ['PUPPETEER_SKIP_DOWNLOAD', 'true'],
  },
  {
    // chromedriver 148.0.1
    name: 'chromedriver',
    tail: /\/\d[\d.]+\/(?<folder>linux64|mac-x64|mac-arm64|win32|win64)\/chromedriver-\k<folder>\.zip$/,
    variables: () => ['npm_config_chromedriver_cdnbinariesurl'],
    without: ['CHROMEDRIVER_SKIP_DOWNLOAD', 'true'],
  },
  {
    // playwright-core 1.65.1: each browser may have a host of its own.
    name: 'playwright',
    tail: /\/builds\/(?<build>[^/]+)\/[^/]+\/(?:[^/]+\/)?[^/]+\.zip$/,
    variables: ({ groups }) => {
      const build = groups?.['build'] ?? ''
      const browser = build === 'cft' ? 'chromium' : /^(?:chromium|firefox|webkit)/.exec(build)?.[0]
      return [browser === undefined ? 'PLAYWRIGHT_DOWNLOAD_HOST' : `PLAYWRIGHT_${browser.toUpperCase()}_DOWNLOAD_HOST`]
    },
    without: ['PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD', '1'],
  },
  {
    // cypress 15.3.0
    name: 'cypress',
    tail: /\/desktop\/\d[^/?]*\?platform=[^/]+$/,
    slash: true,
    variables: () => ['CYPRESS_DOWNLOAD_MIRROR'],
    end: (version, { os, cpu }) => `/desktop/${version}?platform=${os}&arch=${cpu}`,
    without: ['CYPRESS_INSTALL_BINARY', '0'],
  },
  {
    // @sentry/cli 3.8.0
    name: '@sentry/cli',
    tail: /\/\d[^/]*\/sentry-cli-(?:Linux|Darwin|Windows)-[^/]+$/,
    variables: () => ['SENTRYCLI_CDNURL'],
    end: (version, platform) => {
      const name = sentryCliFile(platform)
      return name === undefined ? undefined : `/${version}/sentry-cli-${name}`
    },
    without: ['SENTRYCLI_SKIP_DOWNLOAD', '1'],
  },
  {
    // @prisma/fetch-engine 7.10.1: the checksum of the packed and of the unpacked file are files beside it.
    name: '@prisma/engines',
    tail: /\/all_commits\/[0-9a-f]{40}\/[^/]+\/(?<file>[^/]+?)(?<gz>\.gz)?$/,
    variables: () => ['PRISMA_ENGINES_MIRROR'],
    also: ({ groups }) =>
      groups?.['gz'] === undefined ? [] : [`${groups['file'] ?? ''}.gz.sha256`, `${groups['file'] ?? ''}.sha256`],
  },
  {
    // geckodriver 7.0.0
    name: 'geckodriver',
    tail: /\/v\d+\.\d+\.\d+\/geckodriver-v[^/]+$/,
    variables: () => ['GECKODRIVER_CDNURL'],
  },
  {
    // ffmpeg-static 5.3.0
    name: 'ffmpeg-static',
    tail: /\/b?\d[\d.]*\/(?:ffmpeg-)?(?:linux|darwin|win32|freebsd)-[^/]+\.(?:gz|README|LICENSE)$/,
    variables: () => ['FFMPEG_BINARIES_URL'],
  },
  {
    // mongodb-memory-server-core 11.3.0
    name: 'mongodb-memory-server',
    tail: /\/(?:linux|osx|windows|win32)\/mongodb-[^/]+\.(?:tgz|zip)(?:\.md5)?$/,
    variables: () => ['MONGOMS_DOWNLOAD_MIRROR'],
    without: ['MONGOMS_DISABLE_POSTINSTALL', '1'],
  },
  {
    // sharp 0.32.6, the last one that fetches
    name: 'sharp-libvips',
    tail: /\/v\d[\d.]*\/libvips-[^/]+\.tar\.br$/,
    variables: () => ['npm_config_sharp_libvips_binary_host'],
  },
]

/** @sentry/cli 3.8.0: js/helper.js and scripts/install.js. */
function sentryCliFile({ os, cpu }: Platform): string | undefined {
  const linux = new Map([
    ['x64', 'x86_64'],
    ['ia32', 'i686'],
    ['arm64', 'aarch64'],
    ['arm', 'armv7'],
  ]).get(cpu)
  if (os === 'darwin') return 'Darwin-universal'
  if (os === 'win32') return `Windows-${cpu === 'ia32' ? 'i686' : cpu === 'arm64' ? 'aarch64' : 'x86_64'}.exe`
  return os === 'linux' && linux !== undefined ? `Linux-${linux}` : undefined
}

/**
 * What prebuild-install (7.1.3) and node-pre-gyp (2.0.3) ask for: `<base>/v1.2.3/name-v1.2.3-…-linux-x64.tar.gz`, as a
 * release page has it. The package may be a scoped one, which only the user can know.
 */
export function prebuilt(packageName?: string): Tool {
  return {
    name: packageName ?? 'prebuild-install',
    tail:
      packageName === undefined
        ? /\/[^/]*\d+\.\d+\.\d+[^/]*\/(?<name>(?!node-v)[a-z0-9][a-z0-9._-]*?)-v\d+\.\d+\.\d+[^/]*-(?:linux|darwin|win32|android|freebsd)[^/]*\.tar\.gz$/i
        : /\/[^/]+\/[^/]+$/,
    variables: ({ groups }) => hostVariables(packageName ?? groups?.['name'] ?? ''),
  }
}

/** prebuild-install replaces everything but letters and digits, node-pre-gyp the first dash of the module's name. */
function hostVariables(name: string): readonly string[] {
  return [...new Set([name.replace(/[^a-zA-Z0-9]/g, '_').replace(/^_/, ''), name.replace('-', '_')])]
    .filter((part) => /^\w+$/.test(part))
    .map((part) => `npm_config_${part}_binary_host_mirror`)
}
