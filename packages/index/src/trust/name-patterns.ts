import { splitPackageId } from '@polder/spec'
import type { RangeCache } from '@polder/spec/semver-ranges'

/**
 * A test for names, of exact ones and of patterns in which `*` stands for any characters:
 * `@acme/*` has `@acme/tide`, `acme-*` has `acme-tide`.
 */
export function namesMatching(patterns: readonly string[]): (name: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.includes('*')))
  const globs = patterns.filter((pattern) => pattern.includes('*')).map(toRegExp)
  return (name) => exact.has(name) || globs.some((glob) => glob.test(name))
}

/** The first of the rules that a release matches: `react`, `@acme/*`, `lodash@<4.17.21 || =5.0.0`; undefined if none does. */
export function ruleFor(
  rules: readonly string[],
  name: string,
  version: string,
  ranges: RangeCache,
): string | undefined {
  return rules.find((rule) => {
    const { name: pattern, reference: range } = splitPackageId(rule)
    return namesMatching([pattern])(name) && (range === '' || ranges.satisfies(version, range))
  })
}

function toRegExp(pattern: string): RegExp {
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`)
}
