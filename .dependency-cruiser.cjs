const { globSync, readFileSync } = require('node:fs')

// The layers of the workspace, lowest first: a package imports only from those before it, in its tests too. `cli` wires
// them. scripts/checks/layers.ts plants one violation of each rule and fails if any of them is not reported.
const ROWS = ['spec', 'solver', 'gather', 'lock', 'store', 'flatten', 'index', 'build', 'realise', 'audit', 'cli']

// The entries of the packages: what each package.json exports.
const entries = globSync('packages/*/package.json').flatMap((path) => {
  const { exports: exported = {} } = JSON.parse(readFileSync(path, 'utf8'))
  const files = typeof exported === 'string' ? [exported] : Object.values(exported)
  return files.map((file) => `^${path.replace('package.json', file.slice(2)).replaceAll('.', '\\.')}$`)
})

const inside = (packages) => `^packages/(${packages.join('|')})/`

module.exports = {
  forbidden: [
    ...ROWS.slice(0, -1).map((row, index) => ({
      name: `${row}-imports-upwards`,
      severity: 'error',
      comment: `${row} may import from: ${ROWS.slice(0, index).join(', ') || 'nothing'}.`,
      from: { path: inside([row]) },
      to: { path: inside(ROWS.slice(index + 1)) },
    })),
    {
      name: 'unknown-package',
      severity: 'error',
      comment: 'A new package needs a row above.',
      from: { path: '^packages/', pathNot: inside(ROWS) },
      to: {},
    },
    {
      name: 'inside-of-another-package',
      severity: 'error',
      comment: 'Another package is what the exports of its package.json name.',
      from: { path: '^packages/([^/]+)/' },
      to: { path: '^packages/[^/]+/', pathNot: ['^packages/$1/', ...entries] },
    },
    {
      name: 'source-imports-test',
      severity: 'error',
      from: { path: '^packages/[^/]+/(src|bin)/' },
      to: { path: ['^packages/[^/]+/test/', '^test/'] },
    },
    {
      name: 'package-imports-scripts',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: '^(scripts|examples)/' },
    },
    {
      name: 'cycle',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'unresolvable',
      severity: 'error',
      comment: 'Misspelt, or not declared in the package.json of this package.',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'undeclared',
      severity: 'error',
      comment: "Imported, but not in the package.json of this package. Tests may also use the root's devDependencies.",
      from: { path: '^packages/[^/]+/(src|bin)/' },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'source-imports-dev-dependency',
      severity: 'error',
      from: { path: '^packages/[^/]+/(src|bin)/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // What scripts/build makes.
    exclude: { path: '^packages/cli/dist/' },
    // Type-only imports bind packages to each other as others do.
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    combinedDependencies: false,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['node', 'import', 'default'],
      extensions: ['.ts', '.mjs', '.js', '.json', '.d.ts'],
    },
  },
}
