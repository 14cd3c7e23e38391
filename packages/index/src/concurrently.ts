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
