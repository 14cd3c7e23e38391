import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

import { canPass, moonPosition, tideAt } from './index.mjs'

const require = createRequire(import.meta.url)
const manifest = (name) => JSON.parse(readFileSync(require.resolve(`${name}/package.json`), 'utf8'))

const noon = new Date('2026-06-01T12:00:00Z')
assert.ok(tideAt(noon) > -1 && tideAt(noon) < 3)
assert.ok(canPass(9, noon))
assert.ok(moonPosition(noon).distance > 350_000)

console.log(JSON.stringify({ service: 'tide', loaded: { suncalc: manifest('suncalc').version } }))
