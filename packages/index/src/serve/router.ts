import type { IncomingMessage, ServerResponse } from 'node:http'

import { readConditions } from './conditions.ts'
import { filePath } from '../pins/files.ts'
import type { Counters, MetricsSample } from './metrics.ts'
import { tarballPath } from './npm-documents.ts'
import type { Site, View } from './pinned-index.ts'
import { type Refusal, refusalOf } from './refusal.ts'
import { parseTarget, type RequestTarget } from './request-target.ts'
import { answerFailure, answerJson, type Exchange, failureOf } from './resource.ts'
import { answerService, takesPost } from './service-routes.ts'

/** What answering needs besides the request. */
export interface RouterContext {
  /** Where requests are looked up; another one after a lock changed. */
  readonly site: () => Site
  readonly counters: Counters
  /** Names under which this server may be asked, with the port where that matters; null for any. */
  readonly hosts: ReadonlySet<string> | null
  readonly asker: string | undefined
  /** The socket on which requests come, for the record. */
  readonly socket: string
  readonly metrics: () => Promise<readonly MetricsSample[]>
  readonly onRefused: (refusal: Refusal) => void
  /** What nobody expects. */
  readonly onError: (error: unknown) => void
}

/** Answers every request. What was asked for before takes one look into a Map. */
export function createRouter(context: RouterContext): (request: IncomingMessage, response: ServerResponse) => void {
  const { counters, hosts, onError } = context
  return (request, response) => {
    counters.requests += 1
    const conditions = readConditions(request.rawHeaders)
    const exchange = { request, response, conditions, counters }
    if (hosts !== null && !hosts.has(conditions.host ?? '')) return refuseHost(exchange)
    const site = context.site()
    const known = request.method === 'GET' ? site.byUrl.get(request.url ?? '') : undefined
    const answering = known === undefined ? route(exchange, site, context) : known.answer(exchange)
    answering?.catch((error: unknown) => {
      onError(error)
      answerFailure(exchange, 'other', failureOf(error))
    })
  }
}

async function route(exchange: Exchange, site: Site, context: RouterContext): Promise<void> {
  const { request } = exchange
  const url = request.url ?? ''
  const target = parseTarget(url, (id) => site.index.views.has(id))
  if (target.kind === 'malformed') {
    const code = target.status === 414 ? 'URL_TOO_LONG' : target.status === 404 ? 'NOT_FOUND' : 'BAD_URL'
    answerFailure(exchange, 'other', { status: target.status, code, reason: target.reason })
    return
  }
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  if (!isRead && !(request.method === 'POST' && target.kind === 'service' && takesPost(target.path)))
    return refuseMethod(exchange)
  const view = target.view === undefined ? site.index.all : site.index.views.get(target.view)
  if (view === undefined) return
  switch (target.kind) {
    case 'service':
      return answerBelowDash(exchange, target, view, site, context)
    case 'tarball':
      return answerTarball(exchange, target, view, site, context)
    case 'document':
      return answerDocument(exchange, target, view, site, context)
  }
}

async function answerBelowDash(
  exchange: Exchange,
  { path, query, raw }: RequestTarget & { kind: 'service' },
  view: View,
  site: Site,
  context: RouterContext,
): Promise<void> {
  if (takesPost(path) && exchange.request.method !== 'POST') return refuseMethod(exchange, 'POST')
  if (path.startsWith('/-/files/')) return answerFile(exchange, raw, view, site, context)
  if (await answerService(exchange, path, { site, view, query, metrics: context.metrics })) return
  answerFailure(exchange, 'other', { status: 404, code: 'NOT_FOUND', reason: `there is no ${path} here` })
}

async function answerTarball(
  exchange: Exchange,
  { name, version }: RequestTarget & { kind: 'tarball' },
  view: View,
  site: Site,
  context: RouterContext,
): Promise<void> {
  const pin = view.versions.get(name)?.get(version)
  if (pin === undefined) return refuse(exchange, view, name, version, context)
  const resource = site.tarball(pin)
  site.remember(exchange.request.url ?? '', view, tarballPath(pin), resource)
  return resource.answer(exchange)
}

async function answerDocument(
  exchange: Exchange,
  { name, version }: RequestTarget & { kind: 'document' },
  view: View,
  site: Site,
  context: RouterContext,
): Promise<void> {
  const resource = site.document(view, name)
  if (resource === undefined) return refuse(exchange, view, name, version, context)
  if (version === undefined) {
    site.remember(exchange.request.url ?? '', view, `/${name}`, resource)
    return resource.answer(exchange)
  }
  const described = await site.version(view, name, version)
  if (described === undefined) return refuse(exchange, view, name, version, context)
  answerJson(exchange, described)
}

async function answerFile(
  exchange: Exchange,
  raw: string,
  view: View,
  site: Site,
  { asker, socket, onRefused }: RouterContext,
): Promise<void> {
  // The scheme does not matter to where a file is.
  const url = `http://${raw.slice('/-/files/'.length)}`
  const file = URL.canParse(url) ? view.files.get(filePath(url)) : undefined
  if (file !== undefined) return site.index.artifact(file.integrity, file.url, 'file').answer(exchange)
  onRefused(refusalOf(exchange.request, { what: url, kind: 'file' }, { asker, socket }))
  answerFailure(exchange, 'refused', {
    status: 404,
    code: 'NOT_PINNED',
    reason: `the file ${url.slice('http://'.length)} is not pinned; add it with \`polder index add URL\``,
  })
}

/** 404, with what is pinned instead. It is recorded. */
function refuse(
  exchange: Exchange,
  view: View,
  name: string,
  version: string | undefined,
  { asker, socket, onRefused }: RouterContext,
): void {
  const kind = version === undefined ? 'package' : 'version'
  const what = version === undefined ? name : `${name}@${version}`
  const refusal = refusalOf(exchange.request, { what, kind }, { asker, socket })
  onRefused(refusal)
  const reason = unpinnedReason(name, version, view) ?? reasonOf(what, name, view)
  // A client that looks whether there is a newer one of itself has nothing to tell its user about.
  const isItself = refusal.userAgent?.startsWith(`${name}/`) === true
  const headers = isItself ? {} : { 'npm-notice': printableAscii(reason) }
  answerFailure(exchange, 'refused', { status: 404, code: 'NOT_PINNED', reason, headers })
}

/** Why a version that a lockfile of the repository has cannot be had. */
function unpinnedReason(name: string, version: string | undefined, view: View): string | undefined {
  const known = view.unpinned.get(name)
  const found = version === undefined ? known?.[0] : known?.find((one) => one.version === version)
  if (found === undefined) return undefined
  const what = `${name}@${found.version}`
  if (found.elsewhere !== undefined)
    return `${what} is for platforms that polder.lock is not for. Add them to platforms in polder.yaml and run \`polder lock\``
  const versions = [...(view.versions.get(name)?.keys() ?? [])]
  const became =
    versions.length === 0 ? 'is needed by nothing after flattening' : `was flattened to ${versions.join(' and ')}`
  return `${what} is locked by ${found.lockfile}, but ${became}. Install from what \`polder export\` writes`
}

/** The versions that a message lists before it only counts them. */
const LISTED = 8

/** `left-pad@1.3.0 is not pinned; pinned is 1.2.0. Add it to a service and run …` */
function reasonOf(what: string, name: string, view: View): string {
  const versions = [...(view.versions.get(name)?.keys() ?? [])]
  const rest = versions.length > LISTED ? ` and ${versions.length - LISTED} others` : ''
  const list = `${versions.slice(0, LISTED).join(', ')}${rest}`
  const others = versions.length === 0 ? '' : versions.length === 1 ? `; pinned is ${list}` : `; pinned are ${list}`
  return `${what} is not pinned${others}. Add it to a service and run \`polder lock\``
}

/** What a header may hold; names and versions come from the request. */
function printableAscii(text: string): string {
  return text.replace(/[^\x20-\x7E]/g, '?')
}

function refuseMethod(exchange: Exchange, allowed = 'GET, HEAD'): void {
  answerFailure(exchange, 'other', {
    status: 405,
    code: 'READ_ONLY',
    reason: `${exchange.request.method ?? ''} is not possible: a pinned index is read-only, and changes with the lock`,
    // Whatever body follows is not read.
    headers: { allow: allowed, connection: 'close' },
  })
}

/**
 * A page in a browser can make its own host name mean this machine and then read what is served here; its requests
 * carry that name.
 */
function refuseHost(exchange: Exchange): void {
  answerFailure(exchange, 'other', {
    status: 400,
    code: 'HOST_REFUSED',
    reason: 'the Host header names another host than this server listens on',
    headers: { connection: 'close' },
  })
}
