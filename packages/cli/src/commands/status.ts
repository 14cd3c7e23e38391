import { join } from 'node:path'
import { existsSync, readdirSync } from 'node:fs'

import { findRoot } from '@polder/gather'
import { parseLock } from '@polder/lock'
import { readState } from '@polder/realise'
import { openStore, readRoots, storeHome } from '@polder/store'

import type { Checkout } from '../checkout.ts'
import { changedInputs, LOCK_FILE, lockDigest, readLockText } from '../lock-file.ts'
import { count, listed, type Output } from '../output.ts'

const SHOWN = 5

/** `polder status`: where the checkout stands, in five lines. Changes nothing. */
export function status(cwd: string, output: Output): number {
  const root = findRoot(cwd)
  const lockText = readLockText(root)
  const checkout: Checkout | null = lockText === null ? null : { root, lockText, lock: parseLock(lockText, LOCK_FILE) }
  const changed = checkout === null ? [] : changedInputs(root, checkout.lock.inputs)
  const state = readState(root)
  const services = Object.keys(checkout?.lock.npm.services ?? {})
  const packages = Object.keys(checkout?.lock.npm.packages ?? {}).length
  const splits = Object.keys(checkout?.lock.npm.splits ?? {}).length
  const present = state !== undefined && (state.environmentPath === null || existsSync(state.environmentPath))
  const store = openStore(storeHome(process.env))
  const elsewhere = state !== undefined && state.layout === 'linked' && state.storeHome !== store.home
  const locked = lockText !== null && state?.lock === lockDigest(lockText)
  const current = locked && changed.length === 0 && !elsewhere
  const environments = readdirSync(join(store.home, 'envs')).length
  const checkouts = readRoots(store).length

  const lockLine =
    checkout === null
      ? output.bad('missing: run `polder lock`')
      : changed.length === 0
        ? output.good('up to date')
        : output.bad(`out of date (${listed(changed, output.verbose ? undefined : SHOWN)}): run \`polder lock\``)
  const installedLine =
    state === undefined
      ? output.bad('nothing: run `polder install`')
      : elsewhere
        ? output.bad(`links into another store, ${state.storeHome}: run \`polder install\``)
        : current && present
          ? output.good(`current, ${state.layout}`)
          : locked && present
            ? output.bad('what the lock says, which is out of date')
            : output.bad('not what is locked: run `polder install`')
  output.line(`repository   ${root}${checkout === null ? '' : `, ${count(services.length, 'service')}`}`)
  output.line(`lock         ${lockLine}`)
  const environment =
    checkout === null
      ? 'none, as nothing is locked'
      : `${count(packages, 'package')}, ${splits === 0 ? 'nothing split' : `${count(splits, 'name')} split`}`
  output.line(`environment  ${environment}${state === undefined ? '' : `, ${state.environment.slice(0, 12)}`}`)
  output.line(
    `installed    ${installedLine}${(state?.notBuilt.length ?? 0) > 0 ? `, ${count(state?.notBuilt.length ?? 0, 'package')} not built` : ''}`,
  )
  output.line(`store        ${store.home}, ${count(environments, 'environment')} for ${count(checkouts, 'checkout')}`)
  output.result({
    root,
    services,
    lock: { found: checkout !== null, upToDate: checkout !== null && changed.length === 0, changed },
    environment: { id: state?.environment ?? null, present },
    installed: { layout: state?.layout ?? null, current },
    store: { home: store.home, environments, checkouts },
  })
  return 0
}
