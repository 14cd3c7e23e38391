import { readFileSync } from 'node:fs'

import type { BuildRecord, PlannedBuild } from '@polder/build'
import { compareText, PolderError } from '@polder/spec'
import { type Store, withLease } from '@polder/store'

import { performBuilds } from './builds.ts'
import { count, type Output } from './output.ts'
import { type InstalledWorkspaces, rehearse } from './workspace-scripts.ts'

interface Lesson {
  readonly package: string
  /** URLs that it asked for, as far as they are known. */
  readonly urls: readonly string[]
  /** Hosts whose URLs are not: the connection was to be encrypted, and the log names none. */
  readonly hosts: readonly string[]
  /** Packages that it asked the index for. */
  readonly packages: readonly string[]
}

/**
 * `polder builds --learn`: builds again, keeps nothing, and turns what the scripts tried to fetch into the commands that
 * would pin it. What is encrypted cannot be seen; most scripts print the URL, so their logs are read as well.
 */
export async function learnBuilds(
  { store, root, output }: { readonly store: Store; readonly root: string; readonly output: Output },
  builds: readonly PlannedBuild[],
  workspaces?: InstalledWorkspaces,
): Promise<number> {
  const records: LearnedFrom[] = []
  try {
    await withLease(store, () =>
      performBuilds(store, root, builds, output, { inspect: (_, __, record) => void records.push(record) }),
    )
  } catch (error) {
    // A build that lacks something fails, which is what this is about.
    if (!(error instanceof PolderError && error.code === 'BUILD_FAILED')) throw error
  }
  if (workspaces !== undefined && workspaces.states.length > 0) {
    const rehearsed = await withLease(store, () => rehearse(store, root, workspaces, output))
    records.push(...rehearsed.map(({ record }) => ({ ...record, package: record.path })))
  }
  const lessons = records.map(lessonOf).sort((a, b) => compareText(a.package, b.package))
  for (const lesson of lessons) print(output, lesson)
  if (lessons.every(({ urls, hosts, packages }) => urls.length + hosts.length + packages.length === 0))
    output.line(`${count(records.length, 'build')} asked for nothing that is not pinned`)
  output.result({ builds: lessons })
  return 0
}

type LearnedFrom = Pick<BuildRecord, 'attempts' | 'refused' | 'log'> & { readonly package: string }

function lessonOf({ package: name, attempts, refused, log }: LearnedFrom): Lesson {
  const printed = [...readFileSync(log, 'utf8').matchAll(/https?:\/\/[^\s"'<>`)\]]+/g)].map(([url]) =>
    url.replace(/[.,;:]+$/, ''),
  )
  const hosts = new Set(attempts.flatMap(({ sni, name: asked }) => sni ?? asked ?? []))
  const requested = attempts.flatMap(({ request, host, name: asked }) => {
    const path = /^[A-Z]+ (\/\S*)/.exec(request ?? '')?.[1]
    return path === undefined ? [] : [`http://${host ?? asked ?? ''}${path}`]
  })
  const urls = new Set([...requested, ...printed.filter((url) => hosts.has(hostOf(url)))])
  const known = new Set([...urls].map(hostOf))
  return {
    package: name,
    urls: [...urls].sort(),
    hosts: [...hosts].filter((host) => !known.has(host)).sort(),
    packages: refused.map(({ what }) => what),
  }
}

function hostOf(url: string): string {
  return URL.parse(url)?.hostname ?? ''
}

function print(output: Output, { package: name, urls, hosts, packages }: Lesson): void {
  if (urls.length + hosts.length + packages.length === 0) return
  output.line(output.bold(name))
  for (const url of urls) output.line(`  polder index add ${url} --sha512 …`)
  for (const host of hosts) output.line(`  something on ${host}: the request was encrypted, and its log names no URL`)
  for (const what of packages)
    output.line(
      `  the package ${what}: make it a dependency of a service, or add its tarball with \`polder index add\``,
    )
}
