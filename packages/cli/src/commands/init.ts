import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { proposeConfig } from '@polder/gather'
import { prepareOwnDirectory } from '@polder/realise'
import { currentPlatform, platformName, PolderError } from '@polder/spec'
import { atomicWrite } from '@polder/store'

import { EDITOR_SCHEMA, writeEditorSchema } from '../editor-schema.ts'
import type { Output } from '../output.ts'

/** `polder init`: finds the services below the working directory and writes `polder.yaml`; never over an old one. */
export function init(cwd: string, output: Output): number {
  const path = join(cwd, 'polder.yaml')
  if (existsSync(path)) {
    throw new PolderError('USAGE', `there is a polder.yaml already in ${cwd}`, {
      path,
      hint: 'edit it, or remove it first',
    })
  }
  const { text, services } = proposeConfig(cwd, platformName(currentPlatform()), EDITOR_SCHEMA)
  if (services.length === 0) {
    throw new PolderError('NO_SERVICES', `no lockfile was found below ${cwd}`, {
      path: cwd,
      hint: 'polder reads pnpm-lock.yaml (v9), package-lock.json (v1 to v3), yarn.lock (v1, v6 to v10) and bun.lock',
    })
  }
  prepareOwnDirectory(cwd)
  writeEditorSchema(cwd)
  atomicWrite(path, text)
  // A workspace has one lockfile and many services, which `polder lock` counts.
  const found = services.length === 1 ? 'a lockfile in 1 directory' : `lockfiles in ${services.length} directories`
  output.line(`polder.yaml written: found ${found}`)
  for (const service of services) output.line(`  ${service}`)
  output.line('Next: `polder lock`')
  output.result({ path, services })
  return 0
}
