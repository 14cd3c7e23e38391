import { PolderError, type ErrorCode } from '@polder/spec'

import { printable, type Output } from './output.ts'

/** Exit codes, documented in `docs/commands.md`. Everything not listed is 1. */
const EXIT_CODES: Readonly<Partial<Record<ErrorCode, number>>> = {
  USAGE: 2,
  CONFIG_INVALID: 2,
  CONFIG_NOT_FOUND: 2,
  NO_SERVICES: 2,
  SERVICE_UNKNOWN: 2,
  SCRIPT_UNKNOWN: 2,
  PACKAGE_UNKNOWN: 2,
  LOCK_OUT_OF_DATE: 3,
  LOCKFILE_STALE: 3,
  INDEX_DRIFT: 3,
  ARTIFACT_MISSING: 4,
  VERIFY_FAILED: 5,
  ARTIFACT_CORRUPT: 5,
  INTEGRITY_MISMATCH: 5,
  INDEX_DAMAGED: 5,
  SIGNATURE_INVALID: 5,
  SIGNATURE_MISSING: 5,
  SIGNING_KEY_SWAPPED: 5,
  SIGNING_KEY_UNKNOWN: 5,
  SIGNING_KEY_EXPIRED: 5,
  ATTESTATION_INVALID: 5,
  BUNDLE_INVALID: 5,
}

const SHOWN = 20

/** Prints any error, the only place that does, and gives the exit code. */
export function printError(error: unknown, output: Output): number {
  if (!(error instanceof PolderError)) {
    const unexpected = error instanceof Error ? error : new Error(String(error))
    if (output.json) output.result({ error: { code: 'UNEXPECTED', message: unexpected.message } })
    process.stderr.write(`polder: unexpected: ${printable(unexpected.message)}\n`)
    process.stderr.write(
      output.verbose
        ? `${printable(unexpected.stack ?? '')}\n`
        : `  ${isRefusedBySystem(error) ? 'The system refused it. Where it should not have been asked, this' : 'This'} is a bug in polder. Run again with --verbose for the stack trace.\n`,
    )
    return 1
  }
  if (output.json) output.result({ error: errorDocument(error) })
  else printExpected(error, output)
  return EXIT_CODES[error.code] ?? 1
}

/** Permissions, limits, a directory in the place of a file: mostly nothing that polder could have done better. */
function isRefusedBySystem(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && 'code' in error
}

function printExpected(error: PolderError, output: Output): void {
  const { hint, found, wanted, explanation, others = [] } = error.details
  const lines = [`polder: ${error.message} [${error.code}]`]
  if (found !== undefined && wanted !== undefined) lines.push(`  wanted ${wanted}`, `  found  ${found}`)
  for (const other of others.slice(0, output.verbose ? undefined : SHOWN)) lines.push(`  ${other.message}`)
  if (!output.verbose && others.length > SHOWN)
    lines.push(`  … and ${others.length - SHOWN} more (--verbose shows all)`)
  if (explanation !== undefined) lines.push(...explanation.split('\n').map((line) => `  ${line}`.trimEnd()))
  if (hint !== undefined) lines.push(`  hint: ${hint}`)
  if (output.verbose)
    lines.push(
      error.stack ?? '',
      ...(error.cause instanceof Error ? [`caused by ${error.cause.stack ?? error.cause.message}`] : []),
    )
  process.stderr.write(`${lines.map(printable).join('\n')}\n`)
}

function errorDocument(error: PolderError): object {
  const { hint, found, wanted, path, spec, explanation, others } = error.details
  return {
    code: error.code,
    message: error.message,
    hint,
    found,
    wanted,
    path,
    spec,
    explanation,
    others: others?.map(errorDocument),
  }
}
