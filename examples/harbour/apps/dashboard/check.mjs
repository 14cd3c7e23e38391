// Bundles the board with esbuild (whose program is an optional, platform-specific package), then renders it. Hooks
// work only if the board, react-dom, react-error-boundary and zustand all find one and the same React.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

import esbuild from 'esbuild'
import { createElement, version as react } from 'react'
import { renderToString, version as reactDom } from 'react-dom/server'
import semver from 'semver'

const here = fileURLToPath(new URL('.', import.meta.url))
const require = createRequire(import.meta.url)
const versionOf = (name) => {
  const entry = require.resolve(name)
  const end = entry.lastIndexOf(`/node_modules/${name}/`) + `/node_modules/${name}/`.length
  return JSON.parse(readFileSync(`${entry.slice(0, end)}package.json`, 'utf8')).version
}

// Packages stay outside of the bundle: they are found on disk, from this directory.
const { outputFiles } = await esbuild.build({
  absWorkingDir: here,
  entryPoints: ['src/berth-board.jsx'],
  bundle: true,
  format: 'esm',
  jsx: 'automatic',
  packages: 'external',
  write: false,
})
const code = outputFiles[0].text.replaceAll(
  /from "([^".][^"]*)"/g,
  (_, name) => `from ${JSON.stringify(import.meta.resolve(name))}`,
)
const { BerthBoard } = await import(`data:text/javascript,${encodeURIComponent(code)}`)
const html = renderToString(createElement(BerthBoard, { now: new Date('2026-06-01T12:00:00Z') }))
assert.match(html, /<h1>Tide (?:<!-- -->)?-?\d\.\d\d(?:<!-- -->)? m<\/h1><ul><li>Noorderpier 1<\/li>/)

assert.equal(react, reactDom)
assert.equal(createRequire(require.resolve('react-dom')).resolve('react'), require.resolve('react'))
assert.ok(semver.satisfies(react, '^19.1.0'))
console.log(
  JSON.stringify({
    service: 'dashboard',
    loaded: {
      esbuild: esbuild.version,
      react,
      'react-dom': reactDom,
      'react-error-boundary': versionOf('react-error-boundary'),
      semver: versionOf('semver'),
      zustand: versionOf('zustand'),
    },
  }),
)
