import type { NpmConfig } from '../src/upstream/npm-config.ts'

/** npm's defaults, with short timeouts, for a registry of a test. */
export function npmConfig(registry: string, changes: Partial<NpmConfig> = {}): NpmConfig {
  return {
    registry,
    scopes: new Map(),
    credentials: new Map(),
    tls: { strict: true, ca: null, cert: null, key: null },
    proxy: { http: null, https: null, exempt: [] },
    retry: { retries: 2, factor: 10, minMs: 10_000, maxMs: 60_000 },
    sockets: { perHost: 15, localAddress: null, timeoutMs: 10_000 },
    warnings: [],
    ...changes,
  }
}
