import type { InstanceId } from '@polder/lock'
import { expect, test } from 'vitest'

import { type Pkg, planOf, TOOLCHAIN } from './support/workshop.ts'

const PACKAGES: Readonly<Record<string, Pkg>> = {
  addon: { scripts: { install: 'node-gyp rebuild' }, links: ['tool', 'plain'] },
  tool: { scripts: { postinstall: 'node make.js' }, links: ['plain'] },
  plain: {},
  other: { scripts: { install: 'node other.js' } },
}

const changed = (name: string, pkg: Pkg): Readonly<Record<string, Pkg>> => ({ ...PACKAGES, [name]: pkg })

test('what is built follows what is allowed and has scripts, and builds come with those that they need', () => {
  const { ids, builds } = planOf(PACKAGES, { ask: ['addon', 'plain'] })
  expect(ids['plain']).toBeUndefined()
  expect(
    builds()
      .map(({ package: name }) => name)
      .sort(),
  ).toEqual(['addon@1.0.0', 'tool@1.0.0'])
  const addon = builds().find(({ id }) => id === ids['addon'])
  expect(addon?.after).toEqual([planOf(PACKAGES).ids['tool']])
  expect(addon?.closure.map(({ instance }) => instance)).toEqual(['addon@1.0.0', 'plain@1.0.0', 'tool@1.0.0'])
})

test('ids are the same in whatever order they are asked for', () => {
  const names = Object.keys(PACKAGES)
  expect(planOf(PACKAGES, { ask: [...names].reverse() }).ids).toEqual(planOf(PACKAGES).ids)
})

/** Those whose id is another one than before. */
function others(after: ReturnType<typeof planOf>): readonly string[] {
  const before = planOf(PACKAGES).ids
  return Object.keys(before).filter((name) => before[name] !== after.ids[name])
}

test('a variable for the scripts of a package makes another tree of it, and of what is built with it', () => {
  expect(others(planOf(PACKAGES, { env: { tool: { MODE: 'fast' } } }))).toEqual(['addon', 'tool'])
})

test('another compiler counts only where something is compiled; another Node counts everywhere', () => {
  const { node } = TOOLCHAIN
  expect(others(planOf(PACKAGES, { toolchain: { ...TOOLCHAIN, compiler: 'c++ 1.0' } }))).toEqual(['addon'])
  const newer = { ...TOOLCHAIN, node: { ...node, version: 'v99.0.0' } }
  expect(others(planOf(PACKAGES, { toolchain: newer }))).toEqual(['addon', 'tool', 'other'])
})

test('what nothing keeps in makes other trees of everything that is built, and its recipe says so', () => {
  const loose = planOf(PACKAGES, { unenforced: true })
  expect(others(loose)).toEqual(['addon', 'tool', 'other'])
  expect(loose.builds().every(({ unenforced }) => unenforced === true)).toBe(true)
  const instance = 'other@1.0.0' as InstanceId
  expect(JSON.parse(loose.recipe(instance) ?? '')).toEqual([
    ...(JSON.parse(planOf(PACKAGES).recipe(instance) ?? '') as unknown[]),
    'unenforced',
  ])
})

test('another dependency makes another tree of what can load it, and of nothing else', () => {
  const plain: Pkg = { files: { 'index.js': 'module.exports = 2\n' } }
  expect(others(planOf(changed('plain', plain)))).toEqual(['addon', 'tool'])
})

test('what is for another platform is not there while something is built', () => {
  const elsewhere: Pkg = { optional: true, fields: { os: ['sunos'] } }
  const here: Pkg = { optional: true, fields: { os: [process.platform] } }
  const withIt = { ...PACKAGES, other: { ...PACKAGES['other'], links: ['elsewhere', 'here'] }, elsewhere, here }
  const { builds } = planOf(withIt, { ask: ['other'] })
  expect(builds()[0]?.closure.map(({ name }) => name)).toEqual(['here', 'other'])
  expect(builds()[0]?.closure[1]?.links).toEqual({ here: 'here@1.0.0' })
})

test('of packages that lead to each other, one is built first, and never after itself', () => {
  const scripts = { install: 'true' }
  const circle = {
    a: { scripts, links: ['b'] },
    b: { scripts, links: ['c'] },
    c: { scripts, links: ['a'] },
  }
  const { ids, builds } = planOf(circle)
  const { a, b, c } = ids
  expect(Object.fromEntries(builds().map(({ id, after }) => [id, after]))).toEqual({
    [a ?? '']: [],
    [b ?? '']: [a],
    [c ?? '']: [a, b],
  })
  expect(planOf(circle, { ask: ['c', 'a', 'b'] }).ids).toEqual(ids)
})

test('what has an environment of its own is built in that, after what is built there, and its users know it as that', () => {
  const commit: Pkg = { scripts: { prepare: 'compiler' } }
  const packages = { ...PACKAGES, commit, user: { scripts: { install: 'node use.js' }, links: ['commit'] } }
  const compiler: Pkg = { scripts: { postinstall: 'node make.js' } }
  const environments = { commit: { commit: { ...commit, links: ['compiler'] }, compiler } }
  const { ids, builds } = planOf(packages, { environments })
  expect(ids['commit']).not.toBe(planOf(packages).ids['commit'])
  const build = (name: string): ReturnType<typeof builds>[number] | undefined =>
    builds().find((one) => one.package === `${name}@1.0.0`)
  expect(build('commit')).toMatchObject({ ownEnvironment: true, after: [build('compiler')?.id] })
  expect(build('commit')?.closure.map(({ tree }) => tree)).toContain(build('compiler')?.id)
  expect(build('user')?.after).toEqual([ids['commit']])
  expect(build('tool')?.ownEnvironment).toBeUndefined()
})
