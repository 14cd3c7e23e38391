import { z } from 'zod'

import { invalidLockfile, type LockfileInput, refuseConflictMarkers } from './reader.ts'

export interface YarnEntry {
  readonly name?: string | undefined
  readonly version: string
  readonly resolved?: string | undefined
  readonly integrity?: string | undefined
  readonly dependencies?: Readonly<Record<string, string>> | undefined
  readonly optionalDependencies?: Readonly<Record<string, string>> | undefined
}

const texts = z.record(z.string(), z.string()).optional()
const ENTRY: z.ZodType<YarnEntry> = z.looseObject({
  name: z.string().optional(),
  version: z.string(),
  resolved: z.string().optional(),
  integrity: z.string().optional(),
  dependencies: texts,
  optionalDependencies: texts,
})

/** Pattern (`name@range`) → entry; patterns that share an entry share the object. */
export type YarnDocument = ReadonlyMap<string, YarnEntry>

const MEND = 'yarn install'

/** Parses with yarn's own parser, one CommonJS bundle of whose exports Node 22 does not find all by name. */
export async function readYarnDocument(input: LockfileInput): Promise<YarnDocument> {
  const { path, text } = input
  refuseConflictMarkers(input, MEND)
  const { parse, default: whole } = await import('@yarnpkg/lockfile')
  let object: unknown
  try {
    object = (parse ?? whole.parse)(text, path).object
  } catch (cause) {
    throw invalidLockfile(path, (cause as Error).message, cause)
  }
  const document = new Map<string, YarnEntry>()
  const parsed = new Map<unknown, YarnEntry>()
  for (const [pattern, raw] of Object.entries(object as Record<string, unknown>)) {
    let entry = parsed.get(raw)
    if (entry === undefined) {
      const result = ENTRY.safeParse(raw)
      if (!result.success)
        throw invalidLockfile(
          path,
          `"${pattern}": ${result.error.issues[0]?.path.join('.') ?? ''} ${result.error.issues[0]?.message ?? ''}`,
        )
      entry = result.data
      parsed.set(raw, entry)
    }
    document.set(pattern, entry)
  }
  return document
}
