import { PolderError } from '@polder/spec'

/** @param reason a sentence without its end */
export function refusal(label: string, reason: string, cause?: unknown): PolderError {
  return new PolderError('ARCHIVE_REFUSED', `the archive of ${label} is refused: ${reason}`, {
    spec: label,
    ...(cause === undefined ? {} : { cause }),
    hint: 'no package needs this; leave the package out, or have its author publish a sound archive',
  })
}
