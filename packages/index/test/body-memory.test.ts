import fc from 'fast-check'
import { expect, test } from 'vitest'

import { BodyMemory, type HeldBody } from '../src/serve/body-memory.ts'

class Body implements HeldBody {
  recent = false
  asked = 0
  held = 0
  drop(): void {
    this.held = 0
  }
}

function admit(memory: BodyMemory, body: Body, bytes: number): boolean {
  const isTaken = memory.takes(body, bytes)
  if (isTaken) {
    body.held = bytes
    memory.admit(body)
  }
  return isTaken
}

/** A memory that is full, and what is in it. */
function full(): { readonly memory: BodyMemory; readonly bodies: readonly Body[] } {
  const memory = new BodyMemory(80)
  const bodies = Array.from({ length: 8 }, () => new Body())
  for (const body of bodies) expect(admit(memory, body, 10)).toBe(true)
  return { memory, bodies }
}

const held = (bodies: readonly Body[]): number[] => bodies.flatMap((body, at) => (body.held > 0 ? [at] : []))

test('whoever asks for everything leaves the memory as it is, be it once or as often as what is there', () => {
  const { memory, bodies } = full()
  for (let at = 0; at < 100; at += 1) expect(admit(memory, new Body(), 10)).toBe(false)
  const others = Array.from({ length: 7 }, () => new Body())
  for (let turn = 0; turn < 100; turn += 1) {
    for (const body of bodies) body.recent = true
    for (const body of others) expect(admit(memory, body, 10)).toBe(false)
  }
  expect(held(bodies)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
})

test('what is asked for many times takes the place of what nobody used meanwhile', () => {
  const { memory, bodies } = full()
  const wanted = new Body()
  for (const at of [0, 1, 3]) if (bodies[at] !== undefined) bodies[at].recent = true
  // Every eighth time one is looked at: two that were used are passed over, and the third one goes.
  let times = 1
  while (!admit(memory, wanted, 10)) times += 1
  expect(times).toBe(24)
  expect(held(bodies)).toEqual([0, 1, 3, 4, 5, 6, 7])
  expect([memory.used, memory.count]).toEqual([80, 8])
})

test('a body that would take much of the room is not taken in, nor one of many megabytes, and without room none is', () => {
  const body = new Body()
  expect(new BodyMemory(800).takes(body, 100)).toBe(true)
  expect(new BodyMemory(800).takes(body, 101)).toBe(false)
  expect(new BodyMemory(1e9).takes(body, 4 * 2 ** 20)).toBe(true)
  expect(new BodyMemory(1e9).takes(body, 4 * 2 ** 20 + 1)).toBe(false)
  expect(new BodyMemory(0).takes(body, 1)).toBe(false)
})

test('it never holds more than its limit, and knows what it holds', () => {
  const step = fc.record({
    which: fc.nat({ max: 40 }),
    used: fc.array(fc.nat({ max: 40 }), { maxLength: 5 }),
  })
  fc.assert(
    fc.property(
      fc.integer({ min: 100, max: 2000 }),
      fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 41, maxLength: 41 }),
      fc.array(step, { maxLength: 300 }),
      (limit, sizes, steps) => {
        const memory = new BodyMemory(limit)
        const bodies = sizes.map(() => new Body())
        for (const { which, used } of steps) {
          const body = bodies[which] ?? expect.unreachable()
          if (body.held === 0) admit(memory, body, sizes[which] ?? 1)
          for (const at of used) if ((bodies[at]?.held ?? 0) > 0) Object.assign(bodies[at] ?? {}, { recent: true })
          expect(memory.used).toBeLessThanOrEqual(limit)
          expect(memory.used).toBe(bodies.reduce((sum, { held: bytes }) => sum + bytes, 0))
          expect(memory.count).toBe(held(bodies).length)
        }
      },
    ),
  )
})
