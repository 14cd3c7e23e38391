import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { isErrno, PolderError } from '@polder/spec'
import { type Document, LineCounter, parseDocument } from 'yaml'

import { invalidConfig, mistakes } from './config-mistakes.ts'
import { checkConfig } from './config-schema.ts'
import type { Config } from './config.ts'
import { CONFIG_FILE, nearestRoot } from './inputs.ts'

/**
 * The root of the repository that `cwd` is in: the nearest directory with a `polder.yaml`.
 * @throws PolderError `CONFIG_NOT_FOUND`
 */
export function findRoot(cwd: string): string {
  const root = nearestRoot(cwd)
  if (root !== null) return root
  throw new PolderError('CONFIG_NOT_FOUND', `no ${CONFIG_FILE} in ${cwd} or any directory above it`, {
    path: cwd,
    hint: 'run `polder init` at the root of the repository',
  })
}

/**
 * Reads and validates `polder.yaml`. An empty file is all defaults.
 * @throws PolderError `CONFIG_NOT_FOUND`; `CONFIG_INVALID` with the line and column of every mistake
 */
export function readConfig(root: string): Config {
  let text: string
  try {
    text = readFileSync(join(root, CONFIG_FILE), 'utf8')
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT')) {
      throw new PolderError('CONFIG_INVALID', `${CONFIG_FILE} cannot be read: ${(cause as Error).message}`, {
        path: CONFIG_FILE,
        cause,
      })
    }
    throw new PolderError('CONFIG_NOT_FOUND', `no ${CONFIG_FILE} in ${root}`, {
      path: root,
      hint: 'run `polder init` at the root of the repository',
    })
  }
  return parseConfig(text)
}

/** As {@link readConfig}, of a text. */
export function parseConfig(text: string): Config {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  const [broken] = document.errors
  if (broken !== undefined)
    throw invalidConfig(
      [
        {
          offset: broken.pos[0],
          message: broken.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '') ?? '',
        },
      ],
      lines,
    )
  const checked = checkConfig(valueOf(document) ?? {})
  if (!checked.success)
    throw invalidConfig(
      checked.issues.flatMap((issue) => mistakes(issue, document)),
      lines,
    )
  return checked.config
}

/** Aliases that multiply each other are refused by the library. */
function valueOf(document: Document): unknown {
  try {
    return document.toJS()
  } catch (cause) {
    throw new PolderError('CONFIG_INVALID', `${CONFIG_FILE}: ${(cause as Error).message}`, { path: CONFIG_FILE, cause })
  }
}
