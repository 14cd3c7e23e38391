import { toolEnvironment } from '@polder/index/files'
import { PolderError } from '@polder/spec'

import { openCheckout } from '../checkout.ts'
import type { Output } from '../output.ts'

/** `polder index env`: the variables that point clients, and tools that fetch files, at a served index. */
export function indexEnv(cwd: string, output: Output, baseUrl: string): number {
  const { lock } = openCheckout(cwd)
  const environment = { ...clientEnvironment(baseUrl), ...toolEnvironment(lock.index?.files ?? {}, baseUrl) }
  for (const [name, value] of Object.entries(environment)) output.line(`export ${name}='${value}'`)
  output.result(environment)
  return 0
}

/**
 * npm's variable is yarn 1's and bun's too. pnpm has its own since version 11; so has yarn 4, which refuses `YARN_REGISTRY`
 * and speaks plain HTTP only with hosts that it is told of.
 */
export function clientEnvironment(baseUrl: string): Record<string, string> {
  const url = URL.parse(baseUrl)
  if (url === null || !/^https?:$/.test(url.protocol) || /['\s]/.test(baseUrl))
    throw new PolderError('USAGE', `${JSON.stringify(baseUrl)} is no http or https URL`, { found: baseUrl })
  const registry = `${url.href.replace(/\/+$/, '')}/`
  return {
    npm_config_registry: registry,
    pnpm_config_registry: registry,
    YARN_NPM_REGISTRY_SERVER: registry.replace(/\/$/, ''),
    ...(url.protocol === 'http:' ? { YARN_UNSAFE_HTTP_WHITELIST: url.hostname } : {}),
  }
}
