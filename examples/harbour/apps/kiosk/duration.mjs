import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/**
 * A duration as a person says it. Here is a *phantom*: `ms` stands in no package.json of the kiosk and in no lockfile
 * of its workspace. Other services bring it (through `debug`), so it can be loaded once the environment is flat.
 * Code like this changes its behaviour when a tree is flattened, although no version conflicts.
 */
export async function inWords(milliseconds) {
  try {
    const { default: ms } = await import('ms')
    const manifest = fileURLToPath(import.meta.resolve('ms/package.json'))
    return { text: ms(milliseconds, { long: true }), phantom: JSON.parse(readFileSync(manifest, 'utf8')).version }
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error
    return { text: `${milliseconds / 1000} seconds`, phantom: null }
  }
}
