import { expect, test } from 'vitest'

import { otherDeclaredNodes } from '../src/index.ts'
import { repository } from './support/repository.ts'

const others = (files: Parameters<typeof repository>[0]): readonly string[] =>
  otherDeclaredNodes(repository(files), ['.', 'web'], 26).map(({ path, wanted }) => `${path} ${wanted}`)

test('files of version managers and manifests say which Node it is, at the root and in a service', () => {
  expect(
    others({
      '.nvmrc': '# as in production\nv20.11.1\n',
      '.tool-versions': 'python 3.12.1\nnodejs 22.1.0\n',
      'web/.node-version': '24\n',
      'package.json': { engines: { node: '^20 || ^22.5' }, volta: { node: '20.11.1' } },
      'web/package.json': { devEngines: { runtime: [{ name: 'bun' }, { name: 'node', version: '<26' }] } },
    }),
  ).toEqual([
    '.nvmrc 20.11.1',
    '.tool-versions 22.1.0',
    'package.json 20.11.1',
    'package.json ^20 || ^22.5',
    'web/.node-version 24',
    'web/package.json <26',
  ])
})

test('another release of the same major version is no other Node, nor is one that a range has room for', () => {
  expect(
    others({
      '.nvmrc': '26.0.0',
      '.node-version': 'v26',
      'package.json': { engines: { node: '>=18' }, devEngines: { runtime: { name: 'node', version: '26.1.0' } } },
    }),
  ).toEqual([])
})

test('what no range says, or cannot be read, says nothing', () => {
  expect(
    others({
      '.nvmrc': 'lts/iron\n',
      '.tool-versions': 'python 3.12.1\n',
      'package.json': { engines: ['node 20'], volta: 'none', devEngines: { runtime: 20 } },
      'web/package.json': '{',
    }),
  ).toEqual([])
})
