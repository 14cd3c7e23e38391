/** Does the work for every item, at most `limit` at a time. After the first failure nothing more is begun. */
export async function concurrently<T>(
  items: Iterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items[Symbol.iterator]()
  let stopped = false
  const worker = async (): Promise<void> => {
    for (let next = queue.next(); next.done !== true && !stopped; next = queue.next()) {
      try {
        await work(next.value)
      } catch (error) {
        stopped = true
        throw error
      }
    }
  }
  const workers = Array.from({ length: limit }, worker)
  try {
    await Promise.all(workers)
  } finally {
    // Nothing may be at work any more when the caller hears of it.
    await Promise.allSettled(workers)
  }
}

/** Runs what it is given, so many at a time. */
export function turns(width: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = []
  let free = width
  return async (work) => {
    if (free > 0) free -= 1
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) free += 1
      else next()
    }
  }
}
