import { splitPackageId } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

import { type MetricsSample, prometheusText } from './metrics.ts'
import type { Site, View } from './pinned-index.ts'
import { readAttestations } from '../trust/releases.ts'
import { receiveBody } from './request-body.ts'
import { answerFailure, answerJson, type Exchange } from './resource.ts'
import { searchNames } from './search.ts'

/** What a service route needs besides the exchange. */
export interface ServiceContext {
  readonly site: Site
  readonly view: View
  readonly query: string
  /** Of every process that serves here. */
  readonly metrics: () => Promise<readonly MetricsSample[]>
}

type Route = (exchange: Exchange, context: ServiceContext) => void | Promise<void>

// Nothing is known here of what was found out after the pins were made, and no upstream is asked.
const NO_ADVISORIES = { 'polder-advisories': 'none known here: this index asks no upstream' }

/** What is answered to GET and HEAD. `/-/files/` and `/-/npm/v1/attestations/` have paths of their own behind them. */
const ROUTES: Readonly<Record<string, Route>> = {
  '/': (exchange, { site, view }) => {
    answerJson(exchange, { name: 'polder', names: view.versions.size, locks: [...site.index.views.keys()] })
  },
  '/-/ping': (exchange) => {
    answerJson(exchange, {})
  },
  '/-/health': (exchange, { view }) => {
    answerJson(exchange, { status: 'ok', names: view.versions.size })
  },
  '/-/locks': (exchange, { site }) => {
    const locks = [...site.index.views.values()].map(({ id, versions }) => ({
      id,
      url: `${site.baseUrl}@lock/${id}/`,
      names: versions.size,
    }))
    answerJson(exchange, { locks })
  },
  '/-/whoami': (exchange) => {
    const reason = 'nobody logs in to a pinned index: it is read-only, and only what is on this machine reaches it'
    answerFailure(exchange, 'service', { status: 401, code: 'NO_ACCOUNTS', reason })
  },
  '/-/npm/v1/keys': (exchange, { view }) => {
    const { keys } = view
    if (keys.size === 0) {
      const reason =
        'the lock has no signing keys, so signatures cannot be checked; `polder lock` pins those of registries that sign'
      answerFailure(exchange, 'service', { status: 404, code: 'NO_KEYS', reason })
      return
    }
    answerJson(exchange, {
      keys: [...keys].map(([keyid, key]) => ({
        expires: key.expires ?? null,
        keyid,
        keytype: key.keytype,
        scheme: key.scheme,
        key: key.key,
      })),
    })
  },
  '/-/v1/search': (exchange, { view, query }) => {
    answerJson(exchange, searchNames(view.versions, query, new RangeCache()))
  },
  '/-/metrics': async ({ response, counters }, { metrics }) => {
    const text = prometheusText(await metrics())
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4', 'content-length': Buffer.byteLength(text) })
    response.end(text)
    counters.count('service', 200, text.length)
  },
}

// npm 7 and newer, pnpm (names and versions → advisories), and the older npm and yarn 1 (a whole tree → a report).
const AUDITS: Readonly<Record<string, object>> = {
  '/-/npm/v1/security/advisories/bulk': {},
  '/-/npm/v1/security/audits': emptyReport(),
  '/-/npm/v1/security/audits/quick': emptyReport(),
}

/** The body of an audit names every package of a tree; nothing in it is looked at. */
const LONGEST_BODY = 16 * 1024 * 1024

/** Answers what lies below `/-/`; false if there is nothing of that path. */
export async function answerService(exchange: Exchange, path: string, context: ServiceContext): Promise<boolean> {
  if (Object.hasOwn(AUDITS, path)) {
    await answerAudit(exchange, path)
    return true
  }
  if (path.startsWith(ATTESTATIONS)) {
    answerAttestations(exchange, path.slice(ATTESTATIONS.length), context)
    return true
  }
  const route = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined
  await route?.(exchange, context)
  return route !== undefined
}

/** True for the only paths that are answered to POST. */
export function takesPost(path: string): boolean {
  return Object.hasOwn(AUDITS, path)
}

async function answerAudit(exchange: Exchange, path: string): Promise<void> {
  if (!(await receiveBody(exchange, LONGEST_BODY))) return
  answerJson(exchange, AUDITS[path], NO_ADVISORIES)
}

const ATTESTATIONS = '/-/npm/v1/attestations/'

function answerAttestations(exchange: Exchange, id: string, { site, view }: ServiceContext): void {
  const { name, reference } = splitPackageId(id)
  const pin = view.versions.get(name)?.get(reference)
  const attestations = pin === undefined ? undefined : readAttestations(site.index.store, pin.id)
  if (attestations !== undefined) {
    answerJson(exchange, attestations)
    return
  }
  const reason = pin === undefined ? `${id} is not pinned` : `no attestations of ${id} are recorded here`
  answerFailure(exchange, 'service', { status: 404, code: 'NO_ATTESTATIONS', reason })
}

function emptyReport(): object {
  return {
    actions: [],
    advisories: {},
    muted: [],
    metadata: {
      vulnerabilities: { info: 0, low: 0, moderate: 0, high: 0, critical: 0 },
      dependencies: 0,
      devDependencies: 0,
      optionalDependencies: 0,
      totalDependencies: 0,
    },
  }
}
