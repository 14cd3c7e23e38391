import { isPackageName, PolderError, splitPackageId } from '@polder/spec'
import { load, YAMLException } from 'js-yaml'
import { z } from 'zod'

import type { Lock, LockedKey } from './lock.ts'

/**
 * Parses the text of a `polder.lock`.
 * @param path named in errors
 * @throws PolderError `LOCK_INVALID`: not YAML, merge conflict markers, another version, a key we don't know
 */
export function parseLock(text: string, path: string): Lock {
  if (/^(?:<{7}|>{7}) /m.test(text)) {
    throw new PolderError('LOCK_INVALID', `${path} holds merge conflict markers`, {
      path,
      hint: 'take either side and run `polder lock`: the lock is made from the lockfiles of the services',
    })
  }
  if (text.includes('__proto__')) {
    throw new PolderError('LOCK_INVALID', `${path} holds the name __proto__, which no package has`, {
      path,
      spec: '__proto__',
      hint: REMAKE,
    })
  }
  let document: unknown
  try {
    document = load(text, { filename: path })
  } catch (cause) {
    if (!(cause instanceof YAMLException)) throw cause
    throw new PolderError('LOCK_INVALID', `${path} is not YAML: ${cause.message.split('\n')[0] ?? ''}`, {
      path,
      cause,
      hint: REMAKE,
    })
  }
  const version = (document as { lockfileVersion?: unknown } | null)?.lockfileVersion
  if (version !== 1) {
    throw new PolderError(
      'LOCK_INVALID',
      `${path} has ${version === undefined ? 'no lockfileVersion' : `lockfileVersion ${JSON.stringify(version)}`}`,
      {
        path,
        ...(version === undefined ? {} : { found: JSON.stringify(version), wanted: '1' }),
        hint: 'this polder reads version 1; run `polder lock` to make it anew, or use the polder that wrote it',
      },
    )
  }
  const parsed = LOCK.safeParse(document)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    // Of a key, zod says only that it is invalid, and below that why.
    const reason = issue?.code === 'invalid_key' ? issue.issues[0]?.message : issue?.message
    throw new PolderError('LOCK_INVALID', `${path}: ${issue?.path.join(' > ') ?? ''}: ${reason ?? 'invalid'}`, {
      path,
      hint: REMAKE,
    })
  }
  const lock = parsed.data as unknown as Lock
  checkTargets(lock, path)
  // Looked up by names from the command line and from other packages: `constructor` is a package's name like any other.
  const { keys = {}, packages = {}, files = {} } = lock.index ?? {}
  for (const byName of [lock.npm.root, lock.npm.splits, keys, packages, files]) Object.setPrototypeOf(byName, null)
  return lock
}

/**
 * Just the signing keys of a `polder.lock`, without parsing the rest of it, which takes a hundred times as long.
 * @returns none of a text that is no lock as we write it: {@link parseLock} says what is wrong with it
 */
export function parseSigningKeys(text: string): Readonly<Record<string, LockedKey>> {
  const section = /^index:\n(?: .*\n)+/m.exec(text)?.[0]
  if (section === undefined || text.includes('__proto__')) return {}
  try {
    const parsed = INDEX.safeParse((load(section) as { index: unknown }).index)
    return (parsed.data?.keys ?? {}) as Readonly<Record<string, LockedKey>>
  } catch (error) {
    if (error instanceof YAMLException) return {}
    throw error
  }
}

const REMAKE = 'run `polder lock` to make it anew'

const text = z.string()
const name = text.refine(isPackageName, 'is no package name')
const instanceId = text.refine((id) => isPackageName(splitPackageId(id).name), 'begins with no package name')
const relativePath = text.refine(
  (path) => !path.startsWith('/') && !/(?:^|\/)\.\.(?:\/|$)|[\\\0]/.test(path),
  'leads out of the repository',
)
const strings = z.record(text, text)
const target = text.min(1)
const requirement = z.strictObject({ specifier: text, use: target.optional(), was: text.optional() })
const requirements = z.record(name, requirement).optional()
const sha512 = text.regex(/^sha512-[A-Za-z0-9+/]{86}==$/, 'is no sha512')
const command = z.record(text.regex(/^(?!\.{1,2}$)[A-Za-z0-9@._~+-]+$/, 'is no command'), relativePath)

const INDEX = z.strictObject({
  keys: z
    .record(
      text.regex(/^[\x21-\x7e]{1,200}$/, 'is no key id'),
      z.strictObject({
        keytype: text,
        scheme: text,
        key: text.regex(/^[A-Za-z0-9+/]+={0,2}$/, 'is no base64'),
        expires: text.optional(),
      }),
    )
    .optional(),
  packages: z
    .record(
      instanceId,
      z.strictObject({
        integrity: sha512,
        file: relativePath.optional(),
        workspace: z.literal(true).optional(),
        private: z.literal(true).optional(),
        neededBy: instanceId.optional(),
        preparing: z.array(instanceId).min(1).optional(),
      }),
    )
    .optional(),
  files: z
    .record(
      text.refine((url) => /^https?:\/\//.test(url) && URL.canParse(url), 'is no http or https URL'),
      z.strictObject({ integrity: sha512, bytes: z.int().nonnegative().optional(), for: text.optional() }),
    )
    .optional(),
})

const LOCK = z.strictObject({
  lockfileVersion: z.literal(1),
  policy: z.strictObject({
    platforms: z.array(text),
    versions: z.enum(['fewest', 'highest']),
    pins: z.literal('soft').optional(),
    engines: z.literal('strict').optional(),
    single: z.array(name).optional(),
    split: z.record(name, text).optional(),
    builds: z
      .strictObject({
        allow: z.record(name, text),
        env: z.record(name, z.record(text, text)).optional(),
        workspaces: z.record(relativePath, z.array(relativePath)).optional(),
      })
      .optional(),
  }),
  inputs: z.record(relativePath, text),
  index: INDEX.optional(),
  npm: z.strictObject({
    services: z.record(
      relativePath,
      z.strictObject({
        name: text.optional(),
        version: text.optional(),
        lockfile: relativePath,
        bin: command.optional(),
        dependencies: requirements,
        devDependencies: requirements,
        optionalDependencies: requirements,
        peerDependencies: requirements,
      }),
    ),
    splits: z.record(
      name,
      z.strictObject({
        proven: z.boolean(),
        follows: z.array(name).optional(),
        versions: z.record(text, z.strictObject({ range: text, owner: text, owners: z.number() })),
      }),
    ),
    root: z.record(name, target),
    packages: z.record(
      instanceId,
      z.strictObject({
        integrity: sha512,
        version: text.optional(),
        tarball: text.optional(),
        file: relativePath.optional(),
        git: text.optional(),
        patch: relativePath.optional(),
        patchHash: text.regex(/^[0-9a-f]{64}$/, 'is no sha256').optional(),
        dependencies: strings.optional(),
        optionalDependencies: strings.optional(),
        peerDependencies: strings.optional(),
        optionalPeers: z.array(text).optional(),
        bundled: z.array(text).optional(),
        os: z.array(text).optional(),
        cpu: z.array(text).optional(),
        libc: z.array(text).optional(),
        engines: strings.optional(),
        bin: command.optional(),
        needsBuild: z.literal(true).optional(),
        deprecated: text.optional(),
      }),
    ),
    instances: z.record(
      instanceId,
      z.strictObject({
        package: text.optional(),
        optional: z.literal(true).optional(),
        inCheckout: z.literal(true).optional(),
        links: z.record(name, target).optional(),
      }),
    ),
  }),
})

/** Fills in what serialising leaves out, and makes sure that nothing points at what is not there. */
function checkTargets(lock: Lock, path: string): void {
  const { instances, packages, services, root } = lock.npm
  const fail = (where: string, what: string): never => {
    throw new PolderError('LOCK_INVALID', `${path}: ${where} leads to ${what}, which the lock does not hold`, {
      path,
      spec: what,
      hint: REMAKE,
    })
  }
  const check = (where: string, to: string): void => {
    const known = to.startsWith('link:')
      ? Object.hasOwn(services, to.slice('link:'.length))
      : Object.hasOwn(instances, to)
    if (!known) fail(where, to)
  }
  for (const [id, instance] of Object.entries(instances)) {
    const filled = instance as { package?: string }
    filled.package ??= id
    if (!Object.hasOwn(packages, filled.package)) fail(id, filled.package)
    for (const to of Object.values(instance.links ?? {})) check(id, to)
  }
  for (const [entry, to] of Object.entries(root)) check(`root > ${entry}`, to)
  for (const [service, { dependencies, devDependencies, optionalDependencies, peerDependencies }] of Object.entries(
    services,
  )) {
    for (const group of [dependencies, devDependencies, optionalDependencies, peerDependencies]) {
      for (const { use } of Object.values(group ?? {})) if (use !== undefined) check(service, use)
    }
  }
}
