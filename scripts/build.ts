// The CLI as it is released, in one directory: node scripts/build.ts [DIRECTORY]
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import { buildRelease } from './release.ts'

const [directory = fileURLToPath(new URL('../packages/cli/dist', import.meta.url))] = process.argv.slice(2)
console.log(`built: ${await buildRelease(resolve(directory))}`)
