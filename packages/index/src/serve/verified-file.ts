import type { FileState } from '@polder/store'

/** A file that is verified when it is first opened, once for everybody who waits for it, and again after it changed. */
export class VerifiedFile<Opened extends { readonly state: FileState }> {
  readonly #openAfter: (verified: FileState | undefined) => Promise<Opened>
  #verified: FileState | undefined
  #verifying: Promise<unknown> | undefined

  /** @param openAfter opens it, and verifies it unless it is in this state */
  constructor(openAfter: (verified: FileState | undefined) => Promise<Opened>) {
    this.#openAfter = openAfter
  }

  async open(): Promise<Opened> {
    while (this.#verifying !== undefined) await this.#verifying
    const opening = this.#openAfter(this.#verified)
    if (this.#verified === undefined) {
      this.#verifying = opening.catch(() => undefined)
      await this.#verifying
      this.#verifying = undefined
    }
    const opened = await opening
    this.#verified = opened.state
    return opened
  }
}
