import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'

import { atomicWrite, openStore, storeHome } from '../src/index.ts'
import { temporaryDirectory } from './support/temporary-store.ts'

describe('where the store is', () => {
  test('POLDER_HOME comes first, then the XDG data directory, then ~/.local/share', () => {
    expect(storeHome({ POLDER_HOME: '/a', XDG_DATA_HOME: '/b', HOME: '/c' })).toBe('/a')
    expect(storeHome({ XDG_DATA_HOME: '/b', HOME: '/c' })).toBe('/b/polder')
    expect(storeHome({ HOME: '/c' })).toBe('/c/.local/share/polder')
    for (const env of [{}, { HOME: '' }]) expect(storeHome(env)).toBe(join(userInfo().homedir, '.local/share/polder'))
  })

  test('a relative POLDER_HOME counts from the working directory, a relative XDG_DATA_HOME is ignored', () => {
    expect(storeHome({ POLDER_HOME: 'x' })).toBe(resolve('x'))
    expect(storeHome({ XDG_DATA_HOME: 'x', HOME: '/c' })).toBe('/c/.local/share/polder')
    expect(storeHome({ POLDER_HOME: '', HOME: '/c' })).toBe('/c/.local/share/polder')
  })
})

describe('opening', () => {
  test('a new store gets its layout, and opening it again changes nothing', () => {
    const home = join(temporaryDirectory(), 'deep', 'home')
    expect(openStore(home)).toEqual({ home })
    expect(readFileSync(join(home, 'layout'), 'utf8')).toBe('1\n')
    expect(readdirSync(home).sort()).toEqual([
      'artifacts',
      'envs',
      'layout',
      'locks',
      'manifests',
      'quarantine',
      'roots',
      'tmp',
      'trees',
    ])
    const before = statSync(home).mtimeMs
    openStore(home)
    expect(statSync(home).mtimeMs).toBe(before)
  })

  test('a directory that somebody removed comes back', () => {
    const home = temporaryDirectory()
    openStore(home)
    rmSync(join(home, 'tmp'), { recursive: true })
    openStore(home)
    expect(readdirSync(join(home, 'tmp'))).toEqual([])
  })

  test('a store of another layout is left alone', () => {
    const home = temporaryDirectory()
    writeFileSync(join(home, 'layout'), '2\n')
    expect(() => openStore(home)).toThrow(
      expect.objectContaining({ code: 'STORE_LAYOUT', message: `${home} has store layout "2"; this polder knows 1` }),
    )
    expect(readdirSync(home)).toEqual(['layout'])
  })

  test('a home below a file is no place for a store', () => {
    const directory = temporaryDirectory()
    writeFileSync(join(directory, 'file'), '')
    expect(() => openStore(join(directory, 'file', 'home'))).toThrow(expect.objectContaining({ code: 'STORE_LAYOUT' }))
  })
})

describe('atomic writes', () => {
  test('the new bytes replace the old, with the mode asked for, and no other file stays', () => {
    const directory = temporaryDirectory()
    const path = join(directory, 'file.json')
    atomicWrite(path, 'old')
    atomicWrite(path, Buffer.from('new'), { mode: 0o600 })
    expect(readFileSync(path, 'utf8')).toBe('new')
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readdirSync(directory)).toEqual(['file.json'])
  })

  test('where the rename fails the old file stays and nothing else', () => {
    const directory = temporaryDirectory()
    mkdirSync(join(directory, 'taken', 'full'), { recursive: true })
    expect(() => atomicWrite(join(directory, 'taken'), 'x')).toThrow(expect.objectContaining({ code: 'EISDIR' }))
    expect(readdirSync(directory)).toEqual(['taken'])
  })
})
