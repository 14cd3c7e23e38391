import type { Agent, Dispatcher, Pool, ProxyAgent } from 'undici'

import { type Credentials, type NpmConfig, proxyFor } from './npm-config.ts'

type Proxies = { readonly Pool: typeof Pool; readonly ProxyAgent: typeof ProxyAgent }
type Certificate = Credentials['certificate']

/** The open connections of one sync: kept alive, a bounded number to each host, with the user's TLS and proxy settings. */
export interface Connections {
  /** What to dispatch a request for the URL with. */
  to(url: URL, certificate: Certificate): Dispatcher
  close(): Promise<void>
}

const CONNECT_TIMEOUT_MS = 30_000

/** @param proxies not undefined if the configuration names one */
export function openConnections(
  config: NpmConfig,
  DirectAgent: typeof Agent,
  proxies: Proxies | undefined,
): Connections {
  // One dispatcher for each route, which is a proxy or none and a client certificate or none.
  const routes = new Map<string, Dispatcher>()

  function open(proxy: string | null, certificate: Certificate): Dispatcher {
    const { perHost, localAddress, timeoutMs } = config.sockets
    const tls = tlsOptions(config, certificate)
    const connectTimeout = Math.min(timeoutMs, CONNECT_TIMEOUT_MS)
    const options = {
      connections: perHost,
      // One request at a time on a connection: a large tarball would hold up those behind it.
      pipelining: 1,
      allowH2: false,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      ...(localAddress === null ? {} : { localAddress }),
    }
    if (proxy === null || proxies === undefined)
      return new DirectAgent({ ...options, connect: { ...tls, timeout: connectTimeout } })
    // The proxy's own certificate is judged by the same authorities; the client certificate is for the registry only.
    const { Pool, ProxyAgent } = proxies
    return new ProxyAgent({
      ...options,
      uri: proxy,
      connectTimeout,
      requestTls: tls,
      proxyTls: tlsOptions(config, undefined),
      // For plain requests ProxyAgent would open a pool that has none of the limits.
      factory: (origin, given: object) => new Pool(origin, { ...given, ...options }),
    })
  }

  return {
    to(url, certificate) {
      const proxy = proxyFor(config, url)
      const route = JSON.stringify([proxy, certificate ?? null])
      let dispatcher = routes.get(route)
      if (dispatcher === undefined) routes.set(route, (dispatcher = open(proxy, certificate)))
      return dispatcher
    },
    async close() {
      await Promise.all([...routes.values()].map((dispatcher) => dispatcher.destroy()))
    },
  }
}

function tlsOptions({ tls }: NpmConfig, certificate: Certificate): Record<string, unknown> {
  const cert = certificate?.cert ?? tls.cert
  const key = certificate?.key ?? tls.key
  return {
    rejectUnauthorized: tls.strict,
    ...(tls.ca === null ? {} : { ca: tls.ca }),
    ...(cert === null || key === null ? {} : { cert, key }),
  }
}
