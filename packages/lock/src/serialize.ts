import { sortKeys } from '@polder/spec'
import { dump } from 'js-yaml'

import type {
  BuildPolicy,
  Lock,
  LockedIndex,
  LockedInstance,
  LockedPackage,
  LockedService,
  NpmLock,
  Split,
} from './lock.ts'

/** Facts below this depth stand on one line: `express: { specifier: ^4.18.0, use: express@4.22.1 }`. */
const FLOW_LEVEL = 5

/**
 * The text of `polder.lock`. Everything is put in code-unit order here, whatever order the value came in, so the same
 * lock is the same bytes on every machine.
 */
export function serializeLock(lock: Lock): string {
  const { policy, npm } = lock
  const document = {
    lockfileVersion: lock.lockfileVersion,
    policy: {
      platforms: policy.platforms.toSorted(),
      ...pick(policy, ['versions', 'pins', 'engines', 'single']),
      ...sortedRecords(policy, ['split']),
      ...(policy.builds === undefined ? {} : { builds: builds(policy.builds) }),
    },
    inputs: sortKeys(lock.inputs),
    ...index(lock.index ?? {}),
    npm: {
      services: mapSorted(npm.services, service),
      splits: mapSorted(npm.splits, split),
      root: sortKeys(npm.root),
      packages: mapSorted(npm.packages, lockedPackage),
      instances: instances(npm.instances),
    },
  }
  return dump(document, { flowLevel: FLOW_LEVEL, lineWidth: -1, noRefs: true })
}

function index({ keys, packages, files }: LockedIndex): object {
  const parts = {
    ...(isEmpty(keys) ? {} : { keys: mapSorted(keys, (key) => pick(key, ['keytype', 'scheme', 'key', 'expires'])) }),
    ...(isEmpty(packages)
      ? {}
      : {
          packages: mapSorted(packages, (value) =>
            pick(value, ['integrity', 'file', 'workspace', 'private', 'neededBy', 'preparing']),
          ),
        }),
    ...(isEmpty(files) ? {} : { files: mapSorted(files, (value) => pick(value, ['integrity', 'bytes', 'for'])) }),
  }
  return isEmpty(parts) ? {} : { index: parts }
}

function builds({ allow, env, workspaces }: BuildPolicy): object {
  return {
    allow: sortKeys(allow),
    ...(isEmpty(env) ? {} : { env: mapSorted(env, sortKeys) }),
    ...(isEmpty(workspaces) ? {} : { workspaces: sortKeys(workspaces) }),
  }
}

function service(value: LockedService): object {
  return {
    ...pick(value, ['name', 'version', 'lockfile']),
    ...sortedRecords(value, ['bin']),
    ...Object.fromEntries(
      (['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies'] as const).flatMap((kind) => {
        const group = value[kind]
        return isEmpty(group) ? [] : [[kind, mapSorted(group, (line) => pick(line, ['specifier', 'use', 'was']))]]
      }),
    ),
  }
}

function lockedPackage(value: LockedPackage): object {
  return {
    ...pick(value, ['integrity', 'version', 'tarball', 'file', 'git', 'patch', 'patchHash']),
    ...sortedRecords(value, ['dependencies', 'optionalDependencies', 'peerDependencies', 'engines', 'bin']),
    ...pick(value, ['optionalPeers', 'bundled', 'os', 'cpu', 'libc', 'needsBuild', 'deprecated']),
  }
}

function instances(record: NpmLock['instances']): object {
  const sorted = sortKeys(record as Readonly<Record<string, LockedInstance>>)
  const written: Record<string, object> = Object.create(null) as Record<string, object>
  for (const [id, value] of Object.entries(sorted)) {
    // Most ids are the package's own: said once is enough.
    const own: string = value.package
    written[id] = {
      ...(own === id ? {} : { package: own }),
      ...pick(value, ['optional', 'inCheckout']),
      ...sortedRecords(value, ['links']),
    }
  }
  return written
}

function split(value: Split): object {
  return { ...pick(value, ['proven', 'follows']), versions: value.versions }
}

function mapSorted<T>(record: Readonly<Record<string, T>>, write: (value: T) => object): Record<string, object> {
  const written: Record<string, object> = Object.create(null) as Record<string, object>
  for (const [key, value] of Object.entries(sortKeys(record))) written[key] = write(value)
  return written
}

function pick<T extends object>(value: T, keys: readonly (keyof T & string)[]): object {
  return Object.fromEntries(
    keys.flatMap((key) => {
      const fact: unknown = value[key]
      return fact === undefined || (Array.isArray(fact) && fact.length === 0) ? [] : [[key, fact]]
    }),
  )
}

function sortedRecords<T extends object>(value: T, keys: readonly (keyof T & string)[]): object {
  return Object.fromEntries(
    keys.flatMap((key) => {
      const record = value[key] as Readonly<Record<string, unknown>> | undefined
      return isEmpty(record) ? [] : [[key, sortKeys(record)]]
    }),
  )
}

function isEmpty<T>(record: Readonly<Record<string, T>> | undefined): record is undefined {
  return record === undefined || Object.keys(record).length === 0
}
