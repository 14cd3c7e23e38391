// The last line of .ci/run: node scripts/ci-summary.ts DIRECTORY EXIT_CODE_OF_TESTS EXIT_CODE_OF_CHECKS EXIT_CODE_OF_THE_DEMO
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const [directory = '', testsExit, checksExit, demoExit] = process.argv.slice(2)

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

// Something that ended badly without counting a failure (no file, a test file that does not load) counts as one.
const tests = counts(testsExit, () => {
  const report = read('tests.json') as Readonly<Record<string, number>>
  const skipped = (report['numPendingTests'] ?? 0) + (report['numTodoTests'] ?? 0)
  return { passed: report['numPassedTests'] ?? 0, failed: report['numFailedTests'] ?? 0, skipped }
})
const checks = counts(checksExit, () => ({
  ...(read('checks.json') as { passed: number; failed: number }),
  skipped: 0,
}))

const demo: Counts = { passed: demoExit === '0' ? 1 : 0, failed: demoExit === '0' ? 0 : 1, skipped: 0 }

const passed = tests.passed + checks.passed + demo.passed
const failed = tests.failed + checks.failed + demo.failed
console.log(`Tests: ${line(tests)}; static checks: ${line(checks)}; demo: ${line(demo)}`)
console.log(`${passed} passed, ${failed} failed${tests.skipped > 0 ? `, ${tests.skipped} skipped` : ''}`)
process.exitCode = failed > 0 || tests.passed === 0 ? 1 : 0

function counts(exitCode: string | undefined, report: () => Counts): Counts {
  let counted: Counts = { passed: 0, failed: 0, skipped: 0 }
  try {
    counted = report()
  } catch (error) {
    console.log(`no report: ${(error as Error).message}`)
    return { ...counted, failed: 1 }
  }
  return exitCode === '0' || counted.failed > 0 ? counted : { ...counted, failed: 1 }
}

function read(file: string): unknown {
  return JSON.parse(readFileSync(join(directory, file), 'utf8')) as unknown
}

function line({ passed: good, failed: bad }: Counts): string {
  return `${good} passed, ${bad} failed`
}
