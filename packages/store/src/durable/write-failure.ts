import { isErrno, PolderError } from '@polder/spec'

/**
 * A system error of a write as the error to throw: `DISK_FULL` for a full disk or quota, `STORE_UNWRITABLE` where
 * the file system or its permissions forbid it. Anything else comes back as it is.
 * @param doing what was being written, as in "writing react@19.0.0"
 */
export function writeFailure(error: unknown, doing: string, path: string): unknown {
  if (isErrno(error, 'ENOSPC', 'EDQUOT')) {
    return new PolderError('DISK_FULL', `the disk is full: ${doing} to ${path}`, {
      path,
      cause: error,
      hint: 'make room (`polder store gc` removes what no checkout uses), then run the command again: it continues where it stopped',
    })
  }
  if (isErrno(error, 'EROFS', 'EACCES', 'EPERM')) {
    return new PolderError('STORE_UNWRITABLE', `${doing}: ${path} cannot be written (${error.code})`, {
      path,
      cause: error,
      hint: 'give yourself write access to it; if it is in the store, POLDER_HOME can name a directory that you own',
    })
  }
  return error
}
