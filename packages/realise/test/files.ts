import { readdirSync } from 'node:fs'
import { join } from 'node:path'

/** Every path below a directory with its kind; links are not followed. */
export function walkFiles(
  directory: string,
): { readonly path: string; readonly kind: 'file' | 'link' | 'directory' }[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return [{ path, kind: 'directory' as const }, ...walkFiles(path)]
    return [{ path, kind: entry.isSymbolicLink() ? ('link' as const) : ('file' as const) }]
  })
}
