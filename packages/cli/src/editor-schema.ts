import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { isErrno } from '@polder/spec'
import { atomicWrite } from '@polder/store'

// Editors check and complete `polder.yaml` by a JSON schema that its first line names. It lies in the checkout's own
// `.polder`, so that they find it without a network and wherever polder is; version control does not carry it there.

/** What `polder.yaml` calls it. */
export const EDITOR_SCHEMA = '.polder/polder.schema.json'

/** Beside the manifest of this package, also in a release. */
const SHIPPED = new URL('../polder.schema.json', import.meta.url)

/** Puts the schema of this polder where editors look for it; `.polder` has to be there. */
export function writeEditorSchema(checkout: string): void {
  const path = join(checkout, EDITOR_SCHEMA)
  const schema = readFileSync(SHIPPED)
  if (readIfThere(path)?.equals(schema) !== true) atomicWrite(path, schema, { durable: false })
}

/** The same for a checkout whose `polder.yaml` names it. No installation fails for want of it. */
export function provideEditorSchema(checkout: string): void {
  try {
    if (readIfThere(join(checkout, 'polder.yaml'))?.includes(EDITOR_SCHEMA) === true) writeEditorSchema(checkout)
  } catch {
    // Editors say themselves that they cannot find it.
  }
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
