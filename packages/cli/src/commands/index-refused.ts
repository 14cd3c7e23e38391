import { clearRefused, type RefusedEntry, readRefused } from '@polder/index/server'
import { openStore, storeHome } from '@polder/store'

import { count, type Output } from '../output.ts'

/** `polder index refused`: what the index servers of this store were asked for in vain, and by whom. */
export function indexRefused(output: Output, { clear }: { readonly clear: boolean }): number {
  const store = openStore(storeHome(process.env))
  const entries = readRefused(store)
  if (clear) clearRefused(store)
  output.result({ refused: entries, cleared: clear })
  for (const entry of entries) {
    output.line(`${output.bold(entry.what)}  ${count(entry.count, 'time')}, last ${entry.last}`)
    output.line(output.dim(`  ${whoAsked(entry)}`))
  }
  if (entries.length === 0) output.line('Nothing was refused')
  else if (clear) output.line('Forgotten')
  return 0
}

function whoAsked({ asker, userAgent, command, referer, socket }: RefusedEntry): string {
  const parts = [
    asker === undefined ? undefined : `for ${asker}`,
    command === undefined ? undefined : `by ${command}`,
    userAgent === undefined ? 'by an unnamed client' : `of ${userAgent}`,
    referer === undefined ? undefined : `from ${referer}`,
    `on ${socket}`,
  ]
  return parts.filter((part) => part !== undefined).join(' ')
}
