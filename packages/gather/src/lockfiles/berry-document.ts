import { PolderError } from '@polder/spec'
import { parseSyml } from '@yarnpkg/parsers'
import { z } from 'zod'

import { invalidLockfile, type LockfileInput, refuseConflictMarkers } from './reader.ts'

/** An entry of `yarn.lock` as yarn 3 and 4 write it (`Project.generateLockfile` of @yarnpkg/core). */
export interface BerryEntry {
  readonly version: string
  /** The locator: `name@npm:1.2.3`, `name@workspace:packages/name`, `name@patch:…`. */
  readonly resolution: string
  /** As in the package's own manifest, before resolutions and extensions; with the optional ones, without peers. */
  readonly dependencies?: Texts | undefined
  readonly dependenciesMeta?: Readonly<Record<string, { readonly optional?: string | undefined }>> | undefined
  /** `os=darwin & (cpu=x64 | cpu=arm64)` */
  readonly conditions?: string | undefined
}

/** Descriptor (`name@npm:^1.0.0`) → entry; descriptors that share an entry share the object. */
export type BerryDocument = ReadonlyMap<string, BerryEntry>

type Texts = Readonly<Record<string, string>>

const texts = z.record(z.string(), z.string())
const ENTRY: z.ZodType<BerryEntry> = z.looseObject({
  version: z.string(),
  resolution: z.string(),
  dependencies: texts.optional(),
  dependenciesMeta: z.record(z.string(), z.looseObject({ optional: z.string().optional() })).optional(),
  conditions: z.string().optional(),
})

const MEND = 'yarn install'
const [OLDEST, NEWEST] = [6, 10]

/** Parses with yarn's own parser; every scalar is a text. */
export function readBerryDocument(input: LockfileInput): BerryDocument {
  const { path, text } = input
  refuseConflictMarkers(input, MEND)
  const object = parseYarnYaml(text, path)
  const head = z.looseObject({ version: z.string() }).safeParse(object['__metadata'])
  if (!head.success) throw invalidLockfile(path, 'its __metadata has no version')
  const { version } = head.data
  if (!/^\d+$/.test(version) || Number(version) < OLDEST || Number(version) > NEWEST) {
    throw new PolderError(
      'LOCKFILE_VERSION',
      `${path} has version ${version}; polder reads versions 1 and ${OLDEST} to ${NEWEST}`,
      {
        path,
        found: version,
        wanted: '8',
        hint: `make it again with yarn 4, \`${MEND}\`, or see whether a newer polder reads it`,
      },
    )
  }
  const document = new Map<string, BerryEntry>()
  for (const [key, raw] of Object.entries(object)) {
    if (key === '__metadata') continue
    const entry = ENTRY.safeParse(raw)
    if (!entry.success) {
      const issue = entry.error.issues[0]
      throw invalidLockfile(path, `"${key}": ${issue?.path.join('.') ?? ''} ${issue?.message ?? 'is not as expected'}`)
    }
    for (const descriptor of key.split(/ *, */)) document.set(descriptor, entry.data)
  }
  return document
}

/** The subset of YAML that yarn writes, which is also that of `.yarnrc.yml`. */
export function parseYarnYaml(text: string, path: string): Readonly<Record<string, unknown>> {
  try {
    return parseSyml(text)
  } catch (cause) {
    throw invalidLockfile(path, (cause as Error).message.split('\n')[0] ?? '', cause)
  }
}
