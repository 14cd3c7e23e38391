// Locked to React 19.0.0 in its own lockfile, while the dashboard has a newer one: flattened, both use the same.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

import { tideAt } from '@harbour/tide'
import { v4 } from '@lukeed/uuid'
import { createElement, useId, version as react } from 'react'
import { renderToString, version as reactDom } from 'react-dom/server'

import { inWords } from './duration.mjs'

const require = createRequire(import.meta.url)
const manifestBeside = (name) => {
  const entry = require.resolve(name)
  const end = entry.lastIndexOf(`/node_modules/${name}/`) + `/node_modules/${name}/`.length
  return JSON.parse(readFileSync(`${entry.slice(0, end)}package.json`, 'utf8'))
}

function Pilot({ ship }) {
  return createElement('p', { id: useId() }, `${ship}: ${tideAt(new Date('2026-06-01T12:00:00Z')).toFixed(2)} m`)
}

assert.match(renderToString(createElement(Pilot, { ship: 'Margriet' })), /^<p id="[^"]+">Margriet: -?\d\.\d\d m<\/p>$/)
assert.equal(react, reactDom)
assert.match(v4(), /^[0-9a-f-]{36}$/)

// `ms` is no dependency of the kiosk. In an environment that is not flat there is none, and that is not an error.
const { text, phantom } = await inWords(2 * 3_600_000)
assert.equal(text, phantom === null ? '7200 seconds' : '2 hours')

console.log(
  JSON.stringify({
    service: 'kiosk',
    loaded: { '@lukeed/uuid': manifestBeside('@lukeed/uuid').version, react, 'react-dom': reactDom },
    phantom: { ms: phantom },
  }),
)
