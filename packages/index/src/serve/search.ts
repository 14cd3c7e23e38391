import { compareText } from '@polder/spec'
import type { RangeCache } from '@polder/spec/semver-ranges'

import type { PinnedVersions } from './locked-pins.ts'

/** At most so many results are given at once, as registries do. */
const MOST = 250

/**
 * npm's search (`/-/v1/search?text=&size=&from=`) over the names that are pinned: those that hold every word of the
 * text, the exact one first.
 */
export function searchNames(versions: PinnedVersions, query: string, ranges: RangeCache): object {
  const parameters = new URLSearchParams(query)
  const words = (parameters.get('text') ?? '')
    .toLowerCase()
    .split(/[\s,+]+/)
    .filter((word) => word !== '')
  const found = [...versions.keys()]
    .filter((name) => words.every((word) => name.toLowerCase().includes(word)))
    .sort((a, b) => Number(b === words[0]) - Number(a === words[0]) || compareText(a, b))
  const from = number(parameters.get('from'), 0)
  const size = Math.min(number(parameters.get('size'), 20), MOST)
  return {
    objects: found.slice(from, from + size).map((name) => {
      const version = [...(versions.get(name)?.keys() ?? [])].sort((a, b) => ranges.compare(a, b)).at(-1)
      return {
        package: { name, version, description: '', keywords: [], maintainers: [], links: {} },
        score: { final: 1, detail: { quality: 1, popularity: 1, maintenance: 1 } },
        searchScore: 1,
      }
    }),
    total: found.length,
  }
}

function number(text: string | null, otherwise: number): number {
  return text !== null && /^\d{1,6}$/.test(text) ? Number(text) : otherwise
}
