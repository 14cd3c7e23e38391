import type { Manifest } from '@polder/spec'
import { installScripts } from '@polder/spec/manifest'

import { isPrepared } from './published-manifest.ts'

/**
 * True if a package is not what it is to be before something ran: an install script, or for a commit that was packed whole
 * the scripts that would have run before it was published.
 */
export function needsBuild(
  { manifest, hasBindingGyp }: { readonly manifest: Manifest; readonly hasBindingGyp: boolean },
  isCommit: boolean,
): boolean {
  return installScripts(manifest, hasBindingGyp).length > 0 || (isCommit && isPrepared(manifest.scripts))
}
