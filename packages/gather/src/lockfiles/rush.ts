import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import stripJsonComments from 'strip-json-comments'
import { z } from 'zod'

import { inDirectory, resolveInRepository } from '../repository-path.ts'
import { readPnpmLockfile } from './pnpm.ts'
import { invalidLockfile, type LockfileInput, type ReadLockfile } from './reader.ts'

const PROJECTS = z.looseObject({ projects: z.array(z.looseObject({ projectFolder: z.string() })).default([]) })

/**
 * `common/config/rush/pnpm-lock.yaml`, the one lockfile of a Rush repository. Rush copies it into a workspace that it
 * generates, so its paths are relative to `common/temp`; the projects are listed in `rush.json`.
 */
export async function readRushLockfile(input: LockfileInput): Promise<ReadLockfile> {
  const list = inDirectory(input.directory, 'rush.json')
  const projects = projectsOf(list, input)
  const content = await readPnpmLockfile({ ...input, directory: inDirectory(input.directory, 'common/temp') })
  const locked = new Set(content.services.map(({ path }) => path))
  const missing = projects.filter((path) => !locked.has(path)).sort()
  const warnings =
    missing.length === 0
      ? []
      : [`${list} lists ${missing.join(', ')}, which ${input.path} does not lock: run \`rush update\``]
  return { ...content, warnings: [...content.warnings, ...warnings], inputs: [list, ...content.inputs] }
}

function projectsOf(path: string, { root, directory }: LockfileInput): string[] {
  let json: unknown
  try {
    json = JSON.parse(stripJsonComments(readFileSync(join(root, path), 'utf8'), { trailingCommas: true }))
  } catch (cause) {
    throw invalidLockfile(path, `it cannot be read: ${(cause as Error).message}`, cause)
  }
  const parsed = PROJECTS.safeParse(json)
  if (!parsed.success) throw invalidLockfile(path, 'its projects are not as expected')
  return parsed.data.projects.map(({ projectFolder }) =>
    resolveInRepository(directory, projectFolder, `the project "${projectFolder}" of ${path}`),
  )
}
