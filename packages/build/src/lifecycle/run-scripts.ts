import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import type { BuildIndex } from './build-environment.ts'
import type { BuildOptions } from './build-options.ts'
import type { BuildScript } from './planned-build.ts'
import type { BuildRecord, RecordedAttempt, RefusedRequest } from './build-record.ts'
import type { Mount } from '../sandbox/file-system.ts'
import type { BuildResult, Sandboxes } from '../sandbox/sandboxes.ts'

/** The scripts of one package, and where they run. */
export interface ScriptRun {
  /** Who asks, in records and errors. */
  readonly label: string
  /** In order; what comes after one that fails does not run. */
  readonly scripts: readonly BuildScript[]
  readonly directory: Required<Mount>
  readonly mounts: readonly Mount[]
  /** Where each script has a log of its own while it runs. */
  readonly logs: string
  /** A path for the Unix socket of its index. */
  readonly socket: string
  readonly envOf: (script: BuildScript, index: BuildIndex) => Readonly<Record<string, string>>
}

/** What the scripts of one package did. */
export interface Ran {
  readonly durationMs: number
  readonly attempts: readonly RecordedAttempt[]
  readonly refused: readonly RefusedRequest[]
  readonly failed?: Failed
}

type Failed = { readonly script: BuildScript; readonly result: BuildResult }

/**
 * Runs scripts in a sandbox, one after the other, with an index of their own.
 * @throws PolderError `SANDBOX_FAILED`
 */
export async function runScripts(
  { label, scripts, directory, mounts, logs, socket, envOf }: ScriptRun,
  sandboxes: Sandboxes,
  { serveIndex, indexVariables, limits, signal }: BuildOptions,
): Promise<Ran> {
  const refused = new Map<string, number>()
  const attempts: RecordedAttempt[] = []
  const server = await serveIndex({
    socket,
    asker: label,
    onRefused: (what) => refused.set(what, (refused.get(what) ?? 0) + 1),
  })
  let durationMs = 0
  let failed: Failed | undefined
  try {
    const url = sandboxes.indexUrl
    const index = { url, env: indexVariables(url) }
    for (const script of scripts) {
      const result = await sandboxes.run({
        label,
        script: script.event,
        command: ['/bin/sh', '-c', script.command],
        directory,
        mounts,
        env: envOf(script, index),
        socket,
        log: logOf(logs, script),
        ...(limits === undefined ? {} : { limits }),
        ...(signal === undefined ? {} : { signal }),
      })
      durationMs += result.durationMs
      attempts.push(...result.attempts.map((attempt) => ({ ...attempt, script: script.event })))
      if (result.status === 0 && result.limit === undefined) continue
      failed = { script, result }
      break
    }
  } finally {
    await server.close()
  }
  return {
    durationMs,
    attempts,
    refused: [...refused].map(([what, count]) => ({ what, count })).sort((a, b) => (a.what < b.what ? -1 : 1)),
    ...(failed === undefined ? {} : { failed }),
  }
}

export function failureOf({
  script,
  result: { status, signal, limit, tail },
}: Failed): NonNullable<BuildRecord['failure']> {
  return { script, status, signal, ...(limit === undefined ? {} : { limit }), tail }
}

/** Of all scripts that ran, each below its command. */
export function wholeLog(scripts: readonly BuildScript[], logs: string): Buffer {
  const ran = scripts.filter((script) => existsSync(logOf(logs, script)))
  return Buffer.concat(
    ran.flatMap((script) => [
      Buffer.from(`$ ${script.command}  (${script.event})\n`),
      readFileSync(logOf(logs, script)),
      Buffer.from('\n'),
    ]),
  )
}

function logOf(logs: string, { event }: BuildScript): string {
  return join(logs, `${event}.log`)
}
