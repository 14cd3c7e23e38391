import { expect, test } from 'vitest'

import { attemptList } from '../src/egress/attempts.ts'
import { inventedAddresses } from '../src/egress/dns.ts'

test('equal attempts are counted, and no more than 500 different ones are kept', () => {
  const attempts = attemptList()
  for (let port = 1; port <= 700; port++) {
    attempts.add({ kind: 'tcp', address: '203.0.113.9', port })
    // The first bytes of another connection to the same may differ.
    attempts.add({ kind: 'tcp', address: '203.0.113.9', port, first: String(port) })
  }
  const list = attempts.list()
  expect(list).toHaveLength(500)
  expect(list.every(({ count }) => count === 2)).toBe(true)
  expect(attempts.dropped()).toBe(400)
  expect(attempts.hasRoom()).toBe(false)
})

test('each name has an address of its own in the range for tests, and names without end have none', () => {
  const addresses = inventedAddresses(70_000)
  const given = new Set<string>()
  for (let number = 0; number < 70_000; number++) {
    const address = addresses.addressOf(`name-${number}.example`) ?? ''
    expect(address).toMatch(/^198\.1[89]\.\d+\.\d+$/)
    expect(addresses.nameOf(address)).toBe(`name-${number}.example`)
    given.add(address)
  }
  expect(given.size).toBe(70_000)
  expect(addresses.addressOf('one-more.example')).toBeUndefined()
  expect(addresses.addressOf('name-1.example')).toBe('198.18.0.2')
})
