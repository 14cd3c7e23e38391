import { followersOf, splitNames, type FlattenReport } from '@polder/flatten'
import type { SyncReport } from '@polder/index'
import type { Lock, NpmLock } from '@polder/lock'

import { LOCK_FILE } from '../lock-file.ts'
import { bytes, count, duration, type Output, printFirst } from '../output.ts'
import { versionIn } from './diff.ts'

/** What `polder lock` says at its end: what it unified, what it had to keep apart, and how good that is. */
export function printSummary(
  output: Output,
  report: FlattenReport,
  { npm }: Lock,
  { written, sync, milliseconds }: { written: string; sync: SyncReport | null; milliseconds: number },
): void {
  if (output.quiet) return
  output.line(`${output.bold(LOCK_FILE)} ${written} in ${duration(milliseconds)}`)
  output.line(`  ${count(report.services, 'service')}, ${count(report.names, 'name')}`)
  if (sync !== null)
    output.line(`  ${count(sync.fetched, 'artifact')} fetched (${bytes(sync.bytes)}), ${sync.reused} already there`)
  const bound = report.optimal ? 'proven to be the fewest' : `at least ${report.lowerBound} are needed`
  output.line(`  ${report.before} → ${report.after} packages (${bound})`)
  for (const [policy, packages] of Object.entries(report.otherPolicies)) {
    output.line(`  with policy.${policy} it would be ${count(packages, 'package')}`)
  }
  if (report.moved.length > 0) {
    output.line(`  ${count(report.moved.length, 'requirement')} of services moved to a version that others share`)
    printFirst(output, report.moved, LIST, ({ service, name, from, to }) => {
      output.line(`    ${service}: ${name} ${versionIn(from, name)} → ${versionIn(to, name)}`)
    })
  }
  printSplits(output, report, npm)
  const { length: unmet } = report.unmetPeers
  if (unmet > 0)
    output.line(output.dim(`  ${count(unmet, 'peer')} unmet or outside its range (\`polder lock --json\` lists them)`))
}

const LIST = { shown: 12, indent: '    ' }

function printSplits(output: Output, { firstHand: { all, production } }: FlattenReport, npm: NpmLock): void {
  const names = splitNames(npm)
  if (names.length === 0) return
  const following = names.length - all
  const inProduction = production < all ? ` (${production} in production)` : ''
  const kinds = following === 0 ? '' : `: ${all} first-hand${inProduction}, ${following} that follow from those`
  output.line(`  ${count(names.length, 'name')} kept at several versions${kinds}`)
  printFirst(output, names, LIST, (name) => {
    const { versions = {}, proven = false } = npm.splits[name] ?? {}
    const { length: followers } = followersOf(npm, name)
    const others =
      followers === 0 ? '' : `, and ${count(followers, 'split')} that ${followers === 1 ? 'follows' : 'follow'}`
    output.line(`    ${name}${proven ? '' : ' (not proven)'}${others}`)
    for (const [version, { range, owner, owners }] of Object.entries(versions)) {
      const rest = owners > 1 ? ` and ${count(owners - 1, 'other')}` : ''
      output.line(`      ${version.padEnd(10)} needed by ${owner}${rest} (${range})`)
    }
  })
}
