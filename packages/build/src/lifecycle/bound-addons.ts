import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { readTree, type Store, type TreeId } from '@polder/store'

/**
 * The addons that a build made and that load in no other major version of Node than the one they were made with. One that
 * uses Node-API loads in all. What came with the package counts as no addon of the build: it brings one for each Node.
 * @returns paths in the package, sorted
 */
export function boundAddons(store: Store, built: TreeId, source: TreeId): readonly string[] {
  const { path, files } = readTree(store, built)
  const before = new Set(readTree(store, source).files)
  return files.filter(
    (file) =>
      file.endsWith('.node') &&
      !before.has(file) &&
      // node-gyp leaves its intermediate files as well.
      !file.includes('/obj.target/') &&
      isBound(readFileSync(join(path, file))),
  )
}

/**
 * By the names that Node's headers make an addon import or export (`NODE_MODULE` of node.h, `NAPI_MODULE` of node_api.h);
 * names are what no linker takes away.
 */
function isBound(addon: Buffer): boolean {
  const says = (name: string): boolean => addon.includes(name)
  const usesNodeApi = says('napi_register_module_v') || says('napi_module_register')
  return !usesNodeApi && (says('node_module_register') || says('node_register_module_v'))
}
