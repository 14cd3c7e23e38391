import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'

/** Two halves of 4 MB. */
const ENOUGH = 8 * 2 ** 20

/**
 * Ends the growth of the heap's young generation once it has enough. V8 doubles it, up to 64 MB, for as long as much of
 * what is new stays alive; what a repository is read into stays to the end, so more of that memory would only be touched.
 * Measured with 1,900 to 100,000 packages: no more processor time, and 40 MB less.
 * @returns whether it has enough
 */
export function boundYoungGeneration(): boolean {
  const young = getHeapSpaceStatistics().find((space) => space.space_name === 'new_space')
  if (young === undefined || young.space_size < ENOUGH) return false
  setFlagsFromString('--semi-space-growth-factor=1')
  return true
}
