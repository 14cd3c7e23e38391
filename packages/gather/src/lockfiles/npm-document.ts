import { PolderError } from '@polder/spec'
import { z } from 'zod'

import { flattenNested } from './npm-nested.ts'
import { invalidLockfile, type LockfileInput, refuseConflictMarkers } from './reader.ts'

/** The parts of an entry that have to be well formed; the others are a manifest's. */
export interface NpmEntry {
  readonly name?: string | undefined
  readonly version?: string | undefined
  readonly resolved?: string | undefined
  readonly integrity?: string | undefined
  readonly link?: boolean | undefined
  readonly inBundle?: boolean | undefined
  readonly [field: string]: unknown
}

const ENTRY: z.ZodType<NpmEntry> = z.looseObject({
  name: z.string().optional(),
  version: z.string().optional(),
  resolved: z.string().optional(),
  integrity: z.string().optional(),
  link: z.boolean().optional(),
  inBundle: z.boolean().optional(),
})

/** npm's documentation of package-lock.json. */
export interface NpmDocument {
  readonly version: 1 | 2 | 3
  readonly packages: Readonly<Record<string, NpmEntry>>
}

const MEND = 'npm install --package-lock-only'

export function readNpmDocument(input: LockfileInput): NpmDocument {
  refuseConflictMarkers(input, MEND)
  const { path } = input
  let json: unknown
  try {
    json = JSON.parse(input.text)
  } catch (cause) {
    throw invalidLockfile(path, `it is not JSON: ${(cause as Error).message}`, cause)
  }
  const head = z.looseObject({ lockfileVersion: z.number() }).safeParse(json)
  if (!head.success) throw invalidLockfile(path, 'it has no lockfileVersion')
  const { lockfileVersion } = head.data
  if (lockfileVersion === 1) return { version: 1, packages: flattenNested(json, input) }
  if (lockfileVersion !== 2 && lockfileVersion !== 3) {
    throw new PolderError('LOCKFILE_VERSION', `${path} has version ${lockfileVersion}; polder reads versions 1 to 3`, {
      path,
      found: String(lockfileVersion),
      wanted: '3',
      hint: `make it again with npm 7 or newer, \`${MEND}\`, or see whether a newer polder reads it`,
    })
  }
  const parsed = z.looseObject({ packages: z.record(z.string(), ENTRY) }).safeParse(json)
  if (parsed.success) return { version: lockfileVersion, packages: parsed.data.packages }
  const issue = parsed.error.issues[0]
  throw invalidLockfile(path, `${issue?.path.join(' → ') ?? ''}: ${issue?.message ?? 'is not as expected'}`)
}
