import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const UNION = 'packages/spec/src/error.ts'
const DOCUMENT = 'docs/errors.md'

/**
 * Each member of the `ErrorCode` union has a row in `docs/errors.md`, in the same order, is raised somewhere in the
 * sources, and is named by a test.
 */
export function checkErrorCodes(root: string): readonly string[] {
  const union = /export type ErrorCode =([\s\S]*?)\n\n/.exec(readFileSync(join(root, UNION), 'utf8'))?.[1]
  if (union === undefined) return [`${UNION} has no ErrorCode union`]
  const codes = [...union.matchAll(/^ *\| '([A-Z_]+)'/gm)].map((match) => match[1] ?? '')
  const rows = [...readFileSync(join(root, DOCUMENT), 'utf8').matchAll(/^\| `([A-Z_]+)` \|/gm)].map(
    (match) => match[1] ?? '',
  )
  const sources = textOf(root, 'packages/*/src/**/*.ts', UNION)
  const tests = textOf(root, '{packages/*/test,test}/**/*.ts')

  const problems: string[] = []
  for (const code of codes) {
    if (!rows.includes(code)) problems.push(`${DOCUMENT} has no row for ${code}`)
    if (!sources.includes(`'${code}'`)) problems.push(`${code} is raised nowhere`)
    if (!new RegExp(`\\b${code}\\b`).test(tests)) problems.push(`${code} is named by no test`)
  }
  for (const row of rows)
    if (!codes.includes(row)) problems.push(`${DOCUMENT} has a row for ${row}, which is no error code`)
  const order = codes.filter((code) => rows.includes(code)).join(' ')
  const found = rows.filter((row) => codes.includes(row)).join(' ')
  if (order !== found) problems.push(`${DOCUMENT}: the rows stand in another order than in ${UNION}, or twice`)
  return problems
}

function textOf(root: string, pattern: string, except?: string): string {
  return globSync(pattern, { cwd: root })
    .filter((path) => path !== except && !path.includes('node_modules'))
    .map((path) => readFileSync(join(root, path), 'utf8'))
    .join('\n')
}
