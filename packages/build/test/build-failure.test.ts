import { expect, test } from 'vitest'

import { buildFailure } from '../src/index.ts'

const failed = (command: string, tail: string): Parameters<typeof buildFailure>[0] => ({
  package: 'addon@1.0.0',
  attempts: [],
  refused: [],
  log: '/store/builds/1.log',
  failure: { script: { event: 'install', command }, status: 1, signal: null, tail },
})

test.each([
  [{}, 'no C++ compiler and no Python, which node-gyp needs'],
  [{ python: 'Python 3.11.2' }, 'no C++ compiler'],
  [{ compiler: 'g++ 12.2.0' }, 'no Python, which node-gyp needs'],
])('a failure to compile with a toolchain of %j names what is missing', (toolchain, missing) => {
  const { details } = buildFailure(failed('node-gyp rebuild', 'gyp ERR! not ok'), { toolchain })
  expect(details.hint).toBe(
    `this machine has ${missing} (Debian: apt-get install g++ make python3); the whole log: /store/builds/1.log`,
  )
})

test('other failures, and those with all tools there, do not', () => {
  const toolchain = { compiler: 'g++ 12.2.0', python: 'Python 3.11.2' }
  const hints = [
    buildFailure(failed('node-gyp rebuild', 'gyp ERR! not ok'), { toolchain }),
    buildFailure(failed('node fetch.js', 'no such file'), { toolchain: {} }),
    buildFailure(failed('node-gyp rebuild', 'gyp ERR! not ok')),
  ].map(({ details }) => details.hint)
  expect(new Set(hints)).toEqual(new Set(['the whole log: /store/builds/1.log']))
})
