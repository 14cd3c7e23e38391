import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import type { Registry, ServedVersion } from '../../test/support/registry.ts'
import { packTarball } from '../../test/support/tarball.ts'

/** What is asked for, and under which path. Sizes are those of the whole document or tarball. */
export const TARGETS: readonly { readonly title: string; readonly path: string; readonly gzip: boolean }[] = [
  { title: 'document, 5 KB', path: 'small-document', gzip: false },
  { title: 'document, 65 KB', path: 'medium-document', gzip: false },
  { title: 'document, 65 KB, gzip', path: 'medium-document', gzip: true },
  { title: 'document, 2.4 MB, gzip', path: 'large-document', gzip: true },
  { title: 'tarball, 30 KB', path: 'small-tarball/-/small-tarball-1.0.0.tgz', gzip: false },
  { title: 'tarball, 500 KB', path: 'large-tarball/-/large-tarball-1.0.0.tgz', gzip: false },
  { title: 'tarball, 5 MB', path: 'huge-tarball/-/huge-tarball-1.0.0.tgz', gzip: false },
]

const FILLERS = 2_500

/** A monorepo whose lockfiles pin documents and tarballs of known sizes, some 3,000 pins in all, on the registry given. */
export function sampleMonorepo(directory: string, registry: Registry): void {
  const services = new Map<number, ServedVersion[]>()
  const use = (at: number, served: ServedVersion): void => {
    services.set(at, [...(services.get(at) ?? []), served])
  }
  const document = (name: string, versions: number, manifestBytes: number): void => {
    for (let at = 0; at < versions; at += 1)
      use(at, registry.serve(name, `1.0.${at}`, { scripts: scripts(manifestBytes) }))
  }
  const tarball = (name: string, bytes: number): void => {
    const files = { 'package.json': JSON.stringify({ name, version: '1.0.0' }), 'data.bin': randomBytes(bytes) }
    use(0, registry.serveArtifact(name, '1.0.0', packTarball(files)))
  }
  document('small-document', 4, 800)
  document('medium-document', 50, 800)
  document('large-document', 400, 5_500)
  tarball('small-tarball', 29_000)
  tarball('large-tarball', 500_000)
  tarball('huge-tarball', 5_000_000)
  for (let at = 0; at < FILLERS; at += 1) use(0, registry.serve(`filler-${at}`, '1.0.0'))
  for (const [at, dependencies] of services) writeService(join(directory, `services/s${at}`), dependencies)
}

/** Text that compresses about as well as manifests do. */
function scripts(bytes: number): Record<string, string> {
  const entries: Record<string, string> = {}
  for (let at = 0; at < bytes / 80; at += 1) {
    entries[`task-${at}`] = `node build/task-${at}.js --out lib/${randomBytes(6).toString('hex')} --mode production`
  }
  return entries
}

function writeService(directory: string, served: readonly ServedVersion[]): void {
  mkdirSync(directory, { recursive: true })
  const dependencies = Object.fromEntries(served.map(({ name, version }) => [name, version]))
  const manifest = { name: basename(directory), version: '1.0.0', dependencies }
  const packages = Object.fromEntries(
    served.map(({ name, version, integrity }) => [`node_modules/${name}`, { version, integrity }]),
  )
  const lockfile = { ...manifest, lockfileVersion: 3, requires: true, packages: { '': manifest, ...packages } }
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest))
  writeFileSync(join(directory, 'package-lock.json'), JSON.stringify({ ...lockfile, dependencies: undefined }))
}
