const ACTIVITY_GROWTH = 1 / 0.95
const RESCALE_AT = 1e100

/** Variables by how often they took part in recent conflicts: a binary heap; of equals the first variable leads. */
export class ActivityQueue {
  #activity = new Float64Array(64)
  readonly #heap: number[] = []
  /** Per variable its place in the heap, or -1. */
  readonly #places: number[] = []
  #increment = 1

  add(variable: number): void {
    while (this.#places.length <= variable) this.#places.push(-1)
    if (variable >= this.#activity.length) {
      const larger = new Float64Array(2 * variable)
      larger.set(this.#activity)
      this.#activity = larger
    }
    if (this.#places[variable] !== -1) return
    this.#places[variable] = this.#heap.push(variable) - 1
    this.#rise(this.#heap.length - 1)
  }

  /** Removes and gives the most active one, or -1. */
  take(): number {
    const top = this.#heap[0]
    if (top === undefined) return -1
    const last = this.#heap.pop() as number
    this.#places[top] = -1
    if (last !== top) {
      this.#heap[0] = last
      this.#places[last] = 0
      this.#sink()
    }
    return top
  }

  bump(variable: number): void {
    const activity = (this.#activity[variable] as number) + this.#increment
    this.#activity[variable] = activity
    if (activity > RESCALE_AT) {
      this.#activity = this.#activity.map((value) => value / RESCALE_AT)
      this.#increment /= RESCALE_AT
    }
    const place = this.#places[variable] as number
    if (place >= 0) this.#rise(place)
  }

  /** Makes every later bump count for more. */
  age(): void {
    this.#increment *= ACTIVITY_GROWTH
  }

  #precedes(a: number, b: number): boolean {
    const difference = (this.#activity[a] as number) - (this.#activity[b] as number)
    return difference > 0 || (difference === 0 && a < b)
  }

  #rise(place: number): void {
    const variable = this.#heap[place] as number
    while (place > 0) {
      const above = (place - 1) >> 1
      const parent = this.#heap[above] as number
      if (!this.#precedes(variable, parent)) break
      this.#heap[place] = parent
      this.#places[parent] = place
      place = above
    }
    this.#heap[place] = variable
    this.#places[variable] = place
  }

  #sink(): void {
    const variable = this.#heap[0] as number
    const size = this.#heap.length
    let place = 0
    for (;;) {
      let below = 2 * place + 1
      if (below >= size) break
      if (below + 1 < size && this.#precedes(this.#heap[below + 1] as number, this.#heap[below] as number)) below++
      const child = this.#heap[below] as number
      if (!this.#precedes(child, variable)) break
      this.#heap[place] = child
      this.#places[child] = place
      place = below
    }
    this.#heap[place] = variable
    this.#places[variable] = place
  }
}
