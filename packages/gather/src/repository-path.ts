import { posix } from 'node:path'

import { PolderError } from '@polder/spec'

/** `src/web` and `package.json` make `src/web/package.json`; the repository itself is `.`. */
export function inDirectory(directory: string, name: string): string {
  return directory === '.' ? name : `${directory}/${name}`
}

/** The directory of a path in the repository. */
export function directoryOf(path: string): string {
  return posix.dirname(path)
}

/** The directory itself and those above it, nearest first, `.` last. */
export function ancestry(directory: string): string[] {
  const all = [directory]
  for (let current = directory; current !== '.'; all.push(current)) current = posix.dirname(current)
  return all
}

/**
 * Where `link` leads from `directory`, relative to the repository.
 * @param what named in the error, such as `the dependency "lib" of services/web`
 * @throws PolderError `SOURCE_UNSUPPORTED` if that is outside the repository
 */
export function resolveInRepository(directory: string, link: string, what: string): string {
  const path = posix.normalize(posix.join(directory, link.replaceAll('\\', '/'))).replace(/(?<=.)\/$/, '')
  const outside = path === '..' || path.startsWith('../') || /^(?:[\\/~]|[A-Za-z]:)/.test(link) || link.includes('\0')
  if (!outside) return path
  throw new PolderError('SOURCE_UNSUPPORTED', `${what} leads out of the repository, to ${link}`, {
    found: link,
    hint: 'move it into the repository, publish it, or put polder.yaml in a directory that holds both',
  })
}
