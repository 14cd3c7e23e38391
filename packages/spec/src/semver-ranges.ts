import semver from 'semver'

import type { NodeRelease } from './platform.ts'

/** The Node of this process. What is built every night counts as the release that it leads to. */
export function runningNode(version: string = process.version): NodeRelease {
  const release = version.replace(/^v/, '').replace(/[-+].*$/, '')
  const ranges = new RangeCache()
  return { version: release, satisfies: (range) => ranges.satisfies(release, range) }
}

/** npm's ranges, each parsed once. One per run: `const ranges = new RangeCache()`. */
export class RangeCache {
  readonly #ranges = new Map<string, semver.Range | null>()
  readonly #versions = new Map<string, semver.SemVer | null>()

  /** True if the text is a range (a tag such as `latest`, a URL or a path is not). */
  isRange(range: string): boolean {
    return this.#range(range) !== null
  }

  /** As node-semver's `satisfies` in loose mode; false if either text is not what it should be. `''` is `*`. */
  satisfies(version: string, range: string): boolean {
    const parsedRange = this.#range(range)
    const parsedVersion = this.#version(version)
    return parsedRange !== null && parsedVersion !== null && parsedRange.test(parsedVersion)
  }

  /** True if some version is in both; false if either text is no range. */
  overlap(range: string, other: string): boolean {
    const [left, right] = [this.#range(range), this.#range(other)]
    return left !== null && right !== null && left.intersects(right)
  }

  /** Ascending by version; what is no version comes first, in code-unit order. */
  compare(a: string, b: string): number {
    const [left, right] = [this.#version(a), this.#version(b)]
    if (left === null || right === null) {
      if (left === right) return a < b ? -1 : a > b ? 1 : 0
      return left === null ? -1 : 1
    }
    return semver.compareBuild(left, right) || (a < b ? -1 : a > b ? 1 : 0)
  }

  #range(text: string): semver.Range | null {
    let range = this.#ranges.get(text)
    if (range === undefined) {
      try {
        range = new semver.Range(text, { loose: true })
      } catch {
        range = null
      }
      this.#ranges.set(text, range)
    }
    return range
  }

  #version(text: string): semver.SemVer | null {
    let version = this.#versions.get(text)
    if (version === undefined) {
      version = semver.parse(text, { loose: true })
      this.#versions.set(text, version)
    }
    return version
  }
}
