import { isErrno, PolderError } from '@polder/spec'
import { livenessOf, ownIdentity, ownSuffix, type ProcessIdentity } from '@polder/store'
import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

const POLL_MS = 50

/** A holder in another container or machine cannot be checked; it counts for as long as an installation may take. */
const FOREIGN_HOLDER_MS = 60 * 60 * 1000

/** A process id is used again, so it counts only together with when that process started. */
interface Holder extends ProcessIdentity {
  readonly released?: true
}

/**
 * Runs `fn` as the only one in this checkout.
 *
 * `.polder/lock/` holds numbered files; the highest number is the current holder, and only its owner ever changes a
 * file. Whoever finds the holder gone takes the next number with a hard link, which only one can win; whoever then
 * is not the highest (it looked too long ago) gives its number back. So a lock left by a killed process can be taken
 * over without ever deleting a live one.
 * @param onWait called once if somebody else is at work
 * @throws PolderError `CHECKOUT_BUSY` if it still is after `waitMs`
 */
export async function withCheckoutLock<T>(
  checkout: string,
  { waitMs, onWait }: { readonly waitMs: number; readonly onWait?: (pid: number) => void },
  fn: () => T | Promise<T>,
): Promise<T> {
  const directory = join(checkout, '.polder', 'lock')
  mkdirSync(directory, { recursive: true })
  const until = Date.now() + waitMs
  let told = false
  for (;;) {
    const number = take(directory)
    if (typeof number === 'number') {
      try {
        return await fn()
      } finally {
        release(directory, number)
      }
    }
    if (number === null) continue
    if (!told) onWait?.(number.pid)
    told = true
    if (Date.now() >= until) {
      throw new PolderError('CHECKOUT_BUSY', `another polder (process ${number.pid}) is installing in ${checkout}`, {
        path: directory,
        found: String(number.pid),
        hint: `wait for it to end; if no such process exists, remove ${directory}`,
      })
    }
    await wait(POLL_MS)
  }
}

/** @returns our number, the living holder, or null if somebody was faster */
function take(directory: string): number | Holder | null {
  const highest = Math.max(0, ...numbers(directory))
  if (highest > 0) {
    const holder = livingHolder(join(directory, String(highest)))
    if (holder !== undefined) return holder
  }
  const number = highest + 1
  const path = join(directory, String(number))
  const temporary = writeHolder(directory, ownIdentity())
  try {
    linkSync(temporary, path)
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return null
    throw error
  } finally {
    rmSync(temporary, { force: true })
  }
  if (numbers(directory).some((other) => other > number)) {
    rmSync(path, { force: true })
    return null
  }
  for (const name of readdirSync(directory))
    if (Number(name) < number || isLeftover(directory, name)) rmSync(join(directory, name), { force: true })
  return number
}

/** The file stays, so that numbers only ever rise. Whoever finds it half written takes it for released, which it is. */
function release(directory: string, number: number): void {
  writeFileSync(join(directory, String(number)), JSON.stringify({ ...ownIdentity(), released: true }))
}

function writeHolder(directory: string, holder: Holder): string {
  const temporary = join(directory, `.${ownSuffix()}`)
  writeFileSync(temporary, JSON.stringify(holder), { flag: 'wx' })
  return temporary
}

function numbers(directory: string): readonly number[] {
  return readdirSync(directory)
    .filter((name) => /^[1-9]\d{0,14}$/.test(name))
    .map(Number)
}

/** Of a process that was killed between writing its file and giving it a number: both take no time. */
function isLeftover(directory: string, name: string): boolean {
  const found = statSync(join(directory, name), { throwIfNoEntry: false })
  return name.startsWith('.') && found !== undefined && Date.now() - found.mtimeMs > 60_000
}

function livingHolder(path: string): Holder | undefined {
  let holder: Holder
  let age: number
  try {
    age = Date.now() - statSync(path).mtimeMs
    holder = JSON.parse(readFileSync(path, 'utf8')) as Holder
  } catch (error) {
    // Gone in this moment, or, after a power cut, empty.
    if (isErrno(error, 'ENOENT') || error instanceof SyntaxError) return undefined
    throw error
  }
  if (holder.released === true) return undefined
  const liveness = livenessOf(holder)
  const held = liveness === 'elsewhere' ? age < FOREIGN_HOLDER_MS : liveness === 'alive'
  return held ? holder : undefined
}
