import { statSync } from 'node:fs'

import { readRelease } from '@polder/index'
import { compareText, type Integrity, type PackageId, unpatchedId } from '@polder/spec'
import { artifactPath, openStore, type Store, storeHome } from '@polder/store'

import { openCheckout } from '../checkout.ts'
import { bytes, count, type Output } from '../output.ts'

/** `polder index list`: what the lock pins, how much of it is in the store, and what was added by hand. */
export function indexList(cwd: string, output: Output): number {
  const { lock } = openCheckout(cwd)
  const store = openStore(storeHome(process.env))
  const { packages = {}, files = {}, keys = {} } = lock.index ?? {}
  const locked = Object.entries(lock.npm.packages).map(([id, { integrity }]) => ({ id: id as PackageId, integrity }))
  const tarballs = tally(store, locked)
  const recorded = new Set(locked.map(({ id }) => unpatchedId(id)).filter((id) => readRelease(store, id) !== undefined))
  const additions = {
    packages: Object.entries(packages).map(([id, entry]) => ({
      id,
      ...entry,
      present: sizeOf(store, entry.integrity) !== undefined,
    })),
    files: Object.entries(files).map(([url, entry]) => ({
      url,
      ...entry,
      present: sizeOf(store, entry.integrity) !== undefined,
    })),
  }
  const byHand = additions.packages.filter(
    ({ neededBy, preparing }) => neededBy === undefined && preparing === undefined,
  )
  const forBuilds = additions.packages.filter((entry) => !byHand.includes(entry))
  const added = tally(store, [...byHand, ...Object.values(files)])
  output.line(`packages     ${count(locked.length, 'pin')}, ${bytes(tarballs.bytes)}${lacking(tarballs.missing)}`)
  output.line(
    `releases     ${count(recorded.size, 'record')}, ${count(Object.keys(keys).length, 'signing key')} pinned`,
  )
  output.line(
    `by hand      ${count(byHand.length, 'package')}, ${count(additions.files.length, 'file')}, ${bytes(added.bytes)}${lacking(added.missing)}`,
  )
  for (const { id, file, workspace, private: isPrivate, present } of byHand.toSorted((a, b) =>
    compareText(a.id, b.id),
  )) {
    const notes = [
      workspace === true ? 'workspace' : (file ?? 'hash only'),
      ...(isPrivate === true ? ['private'] : []),
      ...(present ? [] : ['missing']),
    ]
    output.line(`  ${id}  ${output.dim(notes.join(', '))}`)
  }
  for (const { url, bytes: size, for: tool, present } of additions.files) {
    const notes = [
      ...(size === undefined ? [] : [bytes(size)]),
      ...(tool === undefined ? [] : [`for ${tool}`]),
      ...(present ? [] : ['missing']),
    ]
    output.line(`  ${url}  ${output.dim(notes.join(', '))}`)
  }
  if (forBuilds.length > 0) {
    const { bytes: size, missing } = tally(store, forBuilds)
    output.line(`for builds   ${count(forBuilds.length, 'package')}, ${bytes(size)}${lacking(missing)}`)
  }
  output.result({
    packages: { pins: locked.length, ...tarballs },
    releases: recorded.size,
    keys: Object.keys(keys),
    additions,
  })
  return 0
}

function lacking(missing: number): string {
  return missing === 0 ? '' : `, ${missing} not in the store`
}

/** Several pins may be one artifact. */
function tally(store: Store, pins: readonly { readonly integrity: Integrity }[]): { bytes: number; missing: number } {
  const sizes = [...new Set(pins.map(({ integrity }) => integrity))].map((integrity) => sizeOf(store, integrity))
  return {
    bytes: sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0),
    missing: sizes.filter((size) => size === undefined).length,
  }
}

function sizeOf(store: Store, integrity: Integrity): number | undefined {
  const size = statSync(artifactPath(store, integrity), { throwIfNoEntry: false })?.size
  return size === 0 ? undefined : size
}
