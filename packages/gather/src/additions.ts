import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import {
  type Additions,
  algorithmOf,
  isErrno,
  isPackageName,
  type PackageId,
  PolderError,
  sortKeys,
  splitPackageId,
} from '@polder/spec'
import { parse, stringify, YAMLError } from 'yaml'
import { z } from 'zod'

import type { Pin } from './gathered.ts'
import { PINS_FILE } from './inputs.ts'

// polder.pins.yaml, one fact a line so that it merges like source:
//
//   pinsVersion: 1
//   packages:
//     "@acme/lib@2.0.0":
//       integrity: sha512-…
//       file: vendor/lib.tgz
//   files:
//     https://host.example/dist/v22.1.0/node-v22.1.0-headers.tar.gz:
//       integrity: sha512-…
//       bytes: 9123456

const HEADER =
  '# Pins that no lockfile has. `polder index add` writes this file, `polder lock` takes it into polder.lock.\n'

const sha512 = z.string().regex(/^sha512-[A-Za-z0-9+/]{86}==$/, 'is no sha512')
const id = z.string().refine((text) => {
  const { name, reference } = splitPackageId(text)
  return isPackageName(name) && /^\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?$/.test(reference)
}, 'is no name@version')
const inside = z
  .string()
  .min(1)
  .refine((path) => !/^(?:[/~]|[A-Za-z]:)|(?:^|\/)\.\.(?:\/|$)|[\\\0]/.test(path), 'leads out of the repository')
const url = z.string().refine((text) => /^https?:\/\//.test(text) && URL.canParse(text), 'is no http or https URL')

const SCHEMA = z.strictObject({
  pinsVersion: z.literal(1),
  packages: z
    .record(
      id,
      z.strictObject({
        integrity: sha512,
        file: inside.optional(),
        workspace: z.literal(true).optional(),
        private: z.literal(true).optional(),
      }),
    )
    .default({}),
  files: z
    .record(
      url,
      z.strictObject({ integrity: sha512, bytes: z.int().nonnegative().optional(), for: z.string().optional() }),
    )
    .default({}),
})

/**
 * The pins of a repository that no lockfile has, from its `polder.pins.yaml`; undefined if it has none.
 * @throws PolderError `CONFIG_INVALID`
 */
export function readAdditions(root: string): Additions | undefined {
  let text: string
  try {
    text = readFileSync(join(root, PINS_FILE), 'utf8')
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return undefined
    throw invalid((cause as Error).message, cause)
  }
  if (text.includes('__proto__')) throw invalid('holds the name __proto__, which nothing has', undefined)
  let document: unknown
  try {
    document = parse(text, { maxAliasCount: 0 })
  } catch (cause) {
    if (!(cause instanceof YAMLError) && !(cause instanceof ReferenceError)) throw cause
    throw invalid(cause.message.split('\n')[0] ?? '', cause)
  }
  const parsed = SCHEMA.safeParse(document)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    const reason = issue?.code === 'invalid_key' ? issue.issues[0]?.message : issue?.message
    throw invalid([...(issue?.path ?? []), reason ?? 'invalid'].map(String).join(': '), parsed.error)
  }
  const { packages, files } = parsed.data as unknown as Additions
  return { packages: sortKeys(packages), files: sortKeys(files) }
}

/** The text of `polder.pins.yaml`, everything in code-unit order. */
export function serializeAdditions({ packages, files }: Additions): string {
  const document = {
    pinsVersion: 1,
    ...(Object.keys(packages).length === 0 ? {} : { packages: sortKeys(packages) }),
    ...(Object.keys(files).length === 0 ? {} : { files: sortKeys(files) }),
  }
  return HEADER + stringify(document, { lineWidth: 0, aliasDuplicateObjects: false })
}

/**
 * A version can be pinned by a lockfile and by hand, but not to different bytes.
 * @throws PolderError `PIN_CONFLICT`
 */
export function refuseConflicts({ packages }: Additions, pins: ReadonlyMap<PackageId, Pin>): void {
  for (const [id, { integrity: wanted }] of Object.entries(packages)) {
    const pin = pins.get(id as PackageId)
    if (pin === undefined || pin.integrity === null || pin.integrity === wanted) continue
    // A weaker hash says nothing of whether it is another file.
    if (algorithmOf(pin.integrity) !== 'sha512') continue
    throw new PolderError(
      'PIN_CONFLICT',
      `${id} has another hash in ${pin.lockfiles.join(' and ')} than in ${PINS_FILE}`,
      {
        spec: id,
        path: PINS_FILE,
        found: pin.integrity,
        wanted,
        hint: `remove it from ${PINS_FILE}, or give what was added a version of its own`,
      },
    )
  }
}

function invalid(problem: string, cause: unknown): PolderError {
  return new PolderError('CONFIG_INVALID', `${PINS_FILE}: ${problem}`, {
    path: PINS_FILE,
    cause,
    hint: 'after a merge, keep what either side added; `polder index add` writes every entry',
  })
}
