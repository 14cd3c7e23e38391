import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

interface PackageJson {
  readonly name: string
  readonly version?: string
  readonly license?: string
  readonly type?: string
  readonly engines?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
}

/** Facts that every manifest of the workspace must state, and state in the same words. */
const SAME = ['version', 'license', 'type', 'engines'] as const
const EXACT = /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/

/**
 * The manifests of the workspace agree with each other: version, licence, module type and engines are the same, every
 * dependency is pinned to an exact version and to the same one everywhere, and keys are not declared twice.
 */
export function checkManifests(root: string): readonly string[] {
  const problems: string[] = []
  const paths = globSync('packages/*/package.json', { cwd: root }).sort()
  const manifests = ['package.json', ...paths].map((path) => ({ path, manifest: read(join(root, path)) }))
  const model = manifests[1]
  if (model === undefined) return ['there are no packages']

  for (const { path, manifest } of manifests.slice(1)) {
    for (const field of SAME) {
      const [found, wanted] = [JSON.stringify(manifest[field]), JSON.stringify(model.manifest[field])]
      if (found !== wanted || found === undefined)
        problems.push(`${path}: ${field} is ${found}, in ${model.path} ${wanted}`)
    }
    const folder = path.split('/')[1]
    const name = folder === 'cli' ? 'polder' : `@polder/${folder}`
    if (manifest.name !== name) problems.push(`${path}: name is "${manifest.name}", its folder asks for "${name}"`)
  }

  const versions = new Map<string, { readonly version: string; readonly path: string }>()
  for (const { path, manifest } of manifests) {
    const { dependencies = {}, devDependencies = {} } = manifest
    for (const [name, version] of [...Object.entries(dependencies), ...Object.entries(devDependencies)]) {
      if (version !== 'workspace:*' && !EXACT.test(version))
        problems.push(`${path}: ${name} is "${version}", no exact version`)
      const first = versions.get(name)
      if (first === undefined) versions.set(name, { version, path })
      else if (first.version !== version)
        problems.push(`${path}: ${name} is ${version}, in ${first.path} ${first.version}`)
    }
    for (const name of Object.keys(dependencies)) {
      if (Object.hasOwn(devDependencies, name))
        problems.push(`${path}: ${name} is declared as dependency and as devDependency`)
    }
  }
  return problems
}

function read(path: string): PackageJson {
  return JSON.parse(readFileSync(path, 'utf8')) as PackageJson
}
