import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { PolderError } from '@polder/spec'
import { onTestFinished } from 'vitest'

import type { Gathered, GatheredService, Pin, Requirement } from '../../src/gathered.ts'
import { gather, parseConfig } from '../../src/index.ts'

/** File → text, bytes, or a value that is written as JSON. */
export type Files = Readonly<Record<string, unknown>>

/** A repository in a temporary directory that goes when the test is over. */
export function repository(files: Files): string {
  const root = mkdtempSync(join(tmpdir(), 'gather-'))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  write(root, files)
  return root
}

export function write(root: string, files: Files): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(
      join(root, path),
      typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content),
    )
  }
}

/** Gathers a repository of these files. */
export async function gathered(files: Files, config = ''): Promise<Gathered> {
  return gather(repository(files), parseConfig(config))
}

/** The error that gathering these files fails with. */
export async function failure(files: Files, config = ''): Promise<PolderError> {
  return refusal(() => gathered(files, config))
}

export async function refusal(run: () => unknown): Promise<PolderError> {
  try {
    await run()
  } catch (error) {
    if (error instanceof PolderError) return error
    throw error
  }
  throw new Error('it did not fail')
}

export function service(result: Gathered, path: string): GatheredService {
  const found = result.services.find((one) => one.path === path)
  if (found === undefined)
    throw new Error(`no service ${path} among ${result.services.map((one) => one.path).join(', ')}`)
  return found
}

export function requirement(result: Gathered, path: string, name: string): Requirement {
  const found = service(result, path).requirements.find((one) => one.name === name)
  if (found === undefined) throw new Error(`${path} does not require ${name}`)
  return found
}

export function pin(result: Gathered, id: string): Pin {
  const found = result.pins.get(id as Pin['id'])
  if (found === undefined) throw new Error(`no pin ${id} among ${[...result.pins.keys()].join(', ')}`)
  return found
}

/** `name → target` of a pin's edges, a workspace's directory as `link:`. */
export function edges(result: Gathered, id: string): Record<string, string[]> {
  return Object.fromEntries(
    pin(result, id).edges.map(({ name, targets }) => [
      name,
      targets.map((target) => ('package' in target ? target.package : `link:${target.workspace}`)),
    ]),
  )
}

/** A well-formed hash of nothing in particular, another one for each letter. */
export function hash(letter = 'a'): string {
  return `sha512-${letter.repeat(86)}==`
}
