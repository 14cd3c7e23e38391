// Opens sandboxes as the user it is started as, runs builds in them, and prints what came of it as JSON:
// sandbox-process.ts '{ "options": …, "builds": […], "parallel": true, "descriptor": 200 }'
import { PolderError } from '@polder/spec'
import { writeSync } from 'node:fs'

import { openSandboxes } from '../../src/sandbox/ladder.ts'
import type { BuildRequest } from '../../src/sandbox/sandboxes.ts'

interface Job {
  readonly options: Parameters<typeof openSandboxes>[0]
  readonly builds: readonly BuildRequest[]
  readonly atOnce?: boolean
  /** One that it was started with, to show that it is there. */
  readonly descriptor?: number
}

const job = JSON.parse(process.argv[2] ?? '') as Job
if (job.descriptor !== undefined) writeSync(job.descriptor, 'polder has it\n')
try {
  const sandboxes = await openSandboxes(job.options)
  const { level, recorded, shortcomings, missing, indexUrl } = sandboxes
  const results: unknown[] = []
  const run = async (build: BuildRequest): Promise<unknown> =>
    sandboxes.run({ ...build, env: withIndex(build.env, indexUrl) }).catch(failure)
  try {
    if (job.atOnce === true) results.push(...(await Promise.all(job.builds.map(run))))
    else for (const build of job.builds) results.push(await run(build))
  } finally {
    await sandboxes.close()
  }
  console.log(JSON.stringify({ level, recorded, shortcomings, missing, indexUrl, results }))
} catch (error) {
  console.log(JSON.stringify({ ...failure(error), results: [] }))
}

/** A variable whose value is `<index>` is where the index is. */
function withIndex(env: BuildRequest['env'], indexUrl: string): Record<string, string> {
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name, value === '<index>' ? indexUrl : value]))
}

function failure(error: unknown): { readonly error: string; readonly message: string; readonly details?: unknown } {
  if (error instanceof PolderError) return { error: error.code, message: error.message, details: error.details }
  return { error: 'unexpected', message: String(error) }
}
