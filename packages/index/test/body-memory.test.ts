import fc from 'fast-check'
import { expect, test } from 'vitest'

import { BodyMemory, type HeldBody } from '../src/serve/body-memory.ts'

class Body implements HeldBody {
  recent = false
  held: number
  constructor(held: number) {
    this.held = held
  }
  drop(): void {
    this.held = 0
  }
}

test('what was used since the memory last looked stays, what was not goes', () => {
  const memory = new BodyMemory(100)
  const [a, b, c] = [new Body(40), new Body(40), new Body(40)]
  memory.admit(a)
  memory.admit(b)
  a.recent = true
  memory.admit(c)
  expect([a.held, b.held, c.held]).toEqual([40, 0, 40])
  expect([memory.used, memory.count]).toEqual([80, 2])
})

test('a body that would take much of the room is not taken in, and without room none is', () => {
  expect(new BodyMemory(1600).takes(100)).toBe(true)
  expect(new BodyMemory(1600).takes(101)).toBe(false)
  expect(new BodyMemory(0).takes(1)).toBe(false)
})

test('it never holds more than its limit, and knows what it holds', () => {
  const step = fc.record({
    bytes: fc.integer({ min: 1, max: 100 }),
    used: fc.array(fc.nat({ max: 200 }), { maxLength: 5 }),
  })
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 2000 }), fc.array(step, { maxLength: 150 }), (limit, steps) => {
      const memory = new BodyMemory(limit)
      const bodies: Body[] = []
      for (const { bytes, used } of steps) {
        const body = new Body(bytes)
        memory.admit(body)
        bodies.push(body)
        for (const at of used) if (bodies[at] !== undefined) bodies[at].recent = true
        expect(memory.used).toBeLessThanOrEqual(limit)
        expect(memory.used).toBe(bodies.reduce((sum, { held }) => sum + held, 0))
        expect(memory.count).toBe(bodies.filter(({ held }) => held > 0).length)
        expect(body.held).toBe(bytes)
      }
    }),
  )
})
