import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

/** What a rule of `.dependency-cruiser.cjs` says about an import. */
interface Violation {
  readonly rule: { readonly name: string }
  readonly from: string
  readonly to: string
}

/**
 * Layering and cycles, by dependency-cruiser. It says "no violations" just as well when it could not read a file (for
 * want of a TypeScript that has a compiler API), so first a small workspace with one violation of each kind is planted
 * and has to be found out.
 */
export async function checkLayers(root: string): Promise<readonly string[]> {
  const planted = await findPlanted(root)
  const violations = await cruise(root, root, ['packages', 'test', 'scripts'])
  return [...planted, ...violations.map(({ rule, from, to }) => `${rule.name}: ${from} → ${to}`)]
}

// File → its text; each line with an import breaks the rule named behind it.
const PLANTED: Readonly<Record<string, string>> = {
  'packages/spec/src/index.ts': `
    import '@polder/lock' // spec-imports-upwards
    export const a: number = 1`,
  'packages/spec/test/a.test.ts': `
    import type {} from '@polder/store' // spec-imports-upwards`,
  'packages/lock/src/index.ts': `
    import { a } from '../../spec/src/inside.ts' // inside-of-another-package
    import type { B } from './cycle.ts'
    export type A = B
    export { a }`,
  'packages/lock/src/cycle.ts': `
    import type { A } from './index.ts' // cycle
    export type B = A[]`,
  'packages/spec/src/inside.ts': `export const a: number = 1`,
  'packages/store/src/index.ts': `
    import '../test/fixture.ts' // source-imports-test
    import 'not-there-at-all' // unresolvable`,
  'packages/store/test/fixture.ts': `export {}`,
  'packages/new/src/index.ts': `
    import '@polder/spec' // unknown-package`,
  'packages/flatten/src/index.ts': `
    import 'present' // undeclared
    import '../../../scripts/tool.ts' // package-imports-scripts`,
  'packages/index/src/index.ts': `
    import 'present' // source-imports-dev-dependency`,
  'scripts/tool.ts': `export {}`,
}

async function findPlanted(root: string): Promise<readonly string[]> {
  const directory = mkdtempSync(join(tmpdir(), 'polder-layers-'))
  try {
    plant(root, directory)
    const found = new Set(
      (await cruise(root, directory, ['packages'])).map(({ rule, from }) => `${rule.name} in ${from}`),
    )
    const wanted = Object.entries(PLANTED).flatMap(([path, text]) =>
      [...text.matchAll(/\/\/ (\S+)$/gm)].map((match) => `${match[1]} in ${path}`),
    )
    return wanted
      .filter((violation) => !found.has(violation))
      .map((violation) => `self-test: not found out: ${violation}`)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function plant(root: string, directory: string): void {
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), text)
  }
  copyFileSync(join(root, 'tsconfig.json'), join(directory, 'tsconfig.json'))
  write('package.json', JSON.stringify({ name: 'planted', private: true }))
  write('node_modules/present/package.json', JSON.stringify({ name: 'present', version: '1.0.0', main: 'index.js' }))
  write('node_modules/present/index.js', '')
  mkdirSync(join(directory, 'node_modules/@polder'), { recursive: true })
  const names = new Set(
    Object.keys(PLANTED)
      .filter((path) => path.startsWith('packages/'))
      .map((path) => path.split('/')[1] ?? ''),
  )
  for (const name of names) {
    const devDependencies = name === 'index' ? { present: '1.0.0' } : {}
    write(
      `packages/${name}/package.json`,
      JSON.stringify({ name: `@polder/${name}`, exports: './src/index.ts', devDependencies }),
    )
    symlinkSync(join(directory, 'packages', name), join(directory, 'node_modules/@polder', name))
  }
  for (const [path, text] of Object.entries(PLANTED)) write(path, text)
}

/** Gives the violations; throws if dependency-cruiser does not run. */
async function cruise(root: string, cwd: string, folders: readonly string[]): Promise<readonly Violation[]> {
  const program = join(root, 'node_modules/.bin/depcruise')
  const args = ['--config', join(root, '.dependency-cruiser.cjs'), '--output-type', 'json', ...folders]
  const { stdout } = await promisify(execFile)(program, args, { cwd, maxBuffer: 1 << 28 }).catch((error: unknown) => {
    // Its exit code is the number of violations.
    const { stdout: output, stderr } = error as { readonly stdout?: string; readonly stderr?: string }
    if (output === undefined || !output.startsWith('{'))
      throw new Error(`dependency-cruiser failed: ${stderr ?? String(error)}`)
    return { stdout: output }
  })
  const { summary } = JSON.parse(stdout) as {
    readonly summary: { readonly violations: readonly Violation[]; readonly totalCruised: number }
  }
  if (summary.totalCruised === 0) throw new Error('dependency-cruiser found no files')
  return summary.violations
}
