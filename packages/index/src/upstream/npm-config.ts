import { PolderError } from '@polder/spec'

/** What polder honours of the user's npm configuration: a plain value, every path resolved and every file read. */
export interface NpmConfig {
  /** Ends in a slash, as do the scopes'. */
  readonly registry: string
  /** `@scope` → its registry. */
  readonly scopes: ReadonlyMap<string, string>
  /** By nerf dart: `//host:port/path/`, or the same without the last slash. */
  readonly credentials: ReadonlyMap<string, Credentials>
  readonly tls: { readonly strict: boolean } & { readonly [field in 'ca' | 'cert' | 'key']: readonly string[] | null }
  /** `npm` is `https-proxy` or `proxy` of the configuration; the others are those of the environment. */
  readonly proxy: { readonly [protocol in 'http' | 'https']: string | null } & { readonly exempt: readonly string[] }
  readonly retry: RetryPolicy
  /** Connections to one host at a time; the local address they start from. */
  readonly sockets: { readonly perHost: number; readonly localAddress: string | null; readonly timeoutMs: number }
  /** Told before each new attempt, which comes in `waitMs`. */
  readonly onWait?: (wait: Wait) => void
  /** The names that only their scope's own registry may be asked for; none if it is absent. */
  readonly isPrivate?: (name: string) => boolean
  /** Sentences for the user: what was left out, such as a token whose variable is not set. */
  readonly warnings: readonly string[]
}

/** A request that failed for a reason that may pass. */
export interface Wait {
  readonly host: string
  /** As a clause: `answered 503`. */
  readonly reason: string
  readonly waitMs: number
  /** How many attempts there will still be. */
  readonly left: number
}

/** What to show a host. Only ever sent to URLs below its nerf dart. */
export interface Credentials {
  /** The header's value, `Bearer …` or `Basic …`. */
  readonly authorization?: string
  /** PEM texts of a client certificate. */
  readonly certificate?: { readonly cert: string; readonly key: string }
}

/** npm's `fetch-retries` and its companions. */
export interface RetryPolicy {
  readonly retries: number
  readonly factor: number
  readonly minMs: number
  readonly maxMs: number
}

/**
 * The registry that has a package, by its real name: that of its scope, or the default one. Whoever asks a registry for a
 * name gets its URL here, so a private name never reaches another.
 * @throws PolderError `PRIVATE_NAME` for a private name whose scope has no registry of its own
 */
export function registryOf(config: NpmConfig, name: string): string {
  const scope = name.startsWith('@') ? name.slice(0, name.indexOf('/')) : ''
  const own = config.scopes.get(scope)
  if (own !== undefined) return own
  if (config.isPrivate?.(name) !== true) return config.registry
  throw new PolderError(
    'PRIVATE_NAME',
    `${name} is private, and no other registry than its scope's own is asked for it`,
    {
      spec: name,
      found: redactUrl(config.registry),
      hint:
        scope === ''
          ? 'bring it with `polder index add FILE`, or take it out of index.private in polder.yaml'
          : `set ${scope}:registry in .npmrc, or bring it with \`polder index add FILE\``,
    },
  )
}

/**
 * What to show a URL: the entry of the longest nerf dart it is under or, for a tarball outside its registry's path but
 * on the same host, the registry's own (npm-registry-fetch's rule). Nothing of one host ever goes to another.
 */
export function credentialsFor(config: NpmConfig, url: URL, registry?: string): Credentials | undefined {
  const own = nearest(config, url)
  if (own !== undefined || registry === undefined) return own
  const home = new URL(registry)
  return home.host === url.host ? nearest(config, home) : undefined
}

/** The proxy for a URL, or null. `exempt` entries match a host and everything under it, as `NO_PROXY` does. */
export function proxyFor(config: NpmConfig, url: URL): string | null {
  const segments = url.hostname.split('.').reverse()
  const exempt = config.proxy.exempt.some((entry) => {
    const wanted = entry
      .split('.')
      .filter((part) => part !== '')
      .reverse()
    return entry === '*' || (wanted.length > 0 && wanted.every((part, index) => segments[index] === part))
  })
  return exempt ? null : url.protocol === 'https:' ? config.proxy.https : config.proxy.http
}

/** The URL without user, password and query values, any of which may be a secret. For messages. */
export function redactUrl(url: URL | string): string {
  if (!URL.canParse(String(url))) return String(url).replace(/\/\/[^/@]*@/, '//')
  const shown = new URL(url)
  shown.username = ''
  shown.password = ''
  shown.hash = ''
  if (shown.search !== '') shown.search = '?…'
  return shown.href.replace('?%E2%80%A6', '?…')
}

function nearest(config: NpmConfig, url: URL): Credentials | undefined {
  for (let dart = `//${url.host}${url.pathname}`; dart.length > 2; dart = dart.replace(/(?:[^/]+|\/)$/, '')) {
    const found = config.credentials.get(dart)
    if (found !== undefined) return found
  }
  return undefined
}
