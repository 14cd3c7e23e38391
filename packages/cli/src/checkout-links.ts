import { linkCheckout, type Layout, type LinkPlan, type LinkReport, type StateInput } from '@polder/realise'
import type { Store } from '@polder/store'

import { provideEditorSchema } from './editor-schema.ts'
import type { Output } from './output.ts'
import { polderVersion } from './version.ts'

interface Links {
  readonly plan: LinkPlan
  /** Null in the self-contained layout. */
  readonly environmentPath: string | null
  /** sha256 of the lock's text, hex. */
  readonly lockDigest: string
  /** What the next `install` compares first. */
  readonly inputs: Readonly<Record<string, StateInput>>
  /** The layout that the command line asked for. */
  readonly layout?: Layout | undefined
  readonly unenforced?: boolean
  readonly force?: boolean
}

/** Makes the links of a checkout, and leaves what its next `install` wants to know. */
export async function makeCheckoutLinks(
  store: Store,
  checkout: string,
  { plan, environmentPath, lockDigest, inputs, layout, unenforced = false, force = false }: Links,
  output: Output,
): Promise<LinkReport> {
  const report = await linkCheckout({
    store,
    checkout,
    plan,
    environmentPath,
    state: {
      lock: lockDigest,
      inputs,
      ...(layout === undefined ? {} : { layoutAsked: true }),
      ...(unenforced ? { unenforced } : {}),
      polder: polderVersion(),
    },
    force,
    onWait: tellWaiting(output),
  })
  provideEditorSchema(checkout)
  return report
}

/** Says who is waited for. */
export function tellWaiting(output: Output): (pid: number) => void {
  return (pid) => output.note(`polder: waiting for the installation that process ${pid} runs in this checkout`)
}
