import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, join } from 'node:path'

import { readState } from '@polder/realise'
import { compareText, PolderError, type Manifest } from '@polder/spec'
import { parseManifest } from '@polder/spec/manifest'

import { binDirectories, findService, nearestText, openCheckout, serviceOf, type Checkout } from '../checkout.ts'
import type { Output } from '../output.ts'
import { possibleCauses } from '../possible-causes.ts'

/** `polder exec -- CMD`: runs a command with the environment's commands on the path; its exit code is ours. */
export async function exec(cwd: string, command: readonly string[], serviceName: string | undefined): Promise<number> {
  const { checkout, service } = openInstalled(cwd, serviceName)
  const [program = '', ...args] = command
  return spawnInside(checkout, service, {
    program,
    args,
    cwd: serviceName === undefined ? cwd : directoryOf(checkout, service),
  })
}

/** `polder shell`: the user's shell inside the environment. */
export async function shell(cwd: string, serviceName: string | undefined, output: Output): Promise<number> {
  const { checkout, service } = openInstalled(cwd, serviceName)
  const program = process.env['SHELL'] ?? '/bin/sh'
  output.note(`polder: ${program} inside ${service ?? 'the environment'}; leave it with exit`)
  return spawnInside(checkout, service, { program, args: [], cwd: directoryOf(checkout, service) })
}

/**
 * `polder run SCRIPT`: the service of the working directory, the named services, or from the root every service that
 * has the script. `pre` and `post` scripts run as npm runs them. Stops at the first that fails.
 */
export async function run(
  cwd: string,
  script: string,
  args: readonly string[],
  serviceNames: readonly string[],
  output: Output,
): Promise<number> {
  const { checkout } = openInstalled(cwd, undefined)
  const services = servicesToRun(checkout, cwd, script, serviceNames)
  for (const { path, manifest } of services) {
    if (services.length > 1) output.note(`polder: ${path} > ${script}`)
    for (const name of [`pre${script}`, script, `post${script}`]) {
      const body = manifest.scripts[name]
      if (body === undefined) continue
      const code = await spawnInside(checkout, path, {
        program: '/bin/sh',
        args: [
          '-c',
          name === script && args.length > 0 ? `${body} "$@"` : body,
          'sh',
          ...(name === script ? args : []),
        ],
        cwd: join(checkout.root, path),
        env: {
          npm_lifecycle_event: name,
          npm_lifecycle_script: body,
          npm_package_name: manifest.name,
          npm_package_version: manifest.version,
          INIT_CWD: cwd,
        },
      })
      if (code !== 0) {
        output.note(`polder: ${path} > ${name} failed with exit code ${code}`)
        for (const remark of possibleCauses(checkout, path)) output.note(`  ${remark}`)
        return code
      }
    }
  }
  return 0
}

interface ServiceScripts {
  readonly path: string
  readonly manifest: Manifest
}

function servicesToRun(checkout: Checkout, cwd: string, script: string, names: readonly string[]): ServiceScripts[] {
  const read = (path: string): ServiceScripts => {
    const file = join(checkout.root, path, 'package.json')
    return { path, manifest: parseManifest(readFileSync(file, 'utf8'), file) }
  }
  const has = ({ manifest }: ServiceScripts): boolean => Object.hasOwn(manifest.scripts, script)
  if (names.length > 0) {
    const named = names.map((name) => read(findService(checkout.lock.npm.services, name)))
    const without = named.find((service) => !has(service))
    if (without !== undefined) throw unknownScript(script, [without])
    return named
  }
  const here = serviceOf(checkout, cwd)
  const own = here === undefined ? undefined : read(here)
  const isOwn = own !== undefined && (here !== '.' || has(own))
  const searched = isOwn ? [own] : Object.keys(checkout.lock.npm.services).map(read)
  const found = searched.filter(has)
  if (found.length === 0) throw unknownScript(script, searched)
  return found
}

function unknownScript(script: string, searched: readonly ServiceScripts[]): PolderError {
  const known = [...new Set(searched.flatMap(({ manifest }) => Object.keys(manifest.scripts)))].sort(compareText)
  const nearest = nearestText(script, known)
  const there = known.length === 0 ? 'there are no scripts' : `there is: ${known.join(', ')}`
  const [only] = searched.length === 1 ? searched : []
  const where = only === undefined ? 'no service has a script' : `${only.path} has no script`
  return new PolderError('SCRIPT_UNKNOWN', `${where} ${JSON.stringify(script)}`, {
    spec: script,
    hint: nearest === undefined ? there : `did you mean ${nearest}?`,
  })
}

function openInstalled(
  cwd: string,
  serviceName: string | undefined,
): { checkout: Checkout; service: string | undefined } {
  const checkout = openCheckout(cwd)
  // Also where an installation was cut short: half of an environment is worse than none.
  if (readState(checkout.root) === undefined) {
    throw new PolderError('NOT_INSTALLED', `nothing is installed in ${checkout.root}`, {
      path: checkout.root,
      hint: 'run `polder install`',
    })
  }
  return {
    checkout,
    service:
      serviceName === undefined ? serviceOf(checkout, cwd) : findService(checkout.lock.npm.services, serviceName),
  }
}

function directoryOf(checkout: Checkout, service: string | undefined): string {
  return join(checkout.root, service ?? '.')
}

interface Invocation {
  readonly program: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env?: NodeJS.ProcessEnv
}

async function spawnInside(
  { root }: Checkout,
  service: string | undefined,
  { program, args, cwd, env = {} }: Invocation,
): Promise<number> {
  const path = [...binDirectories(root, service), process.env['PATH'] ?? ''].join(delimiter)
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env, PATH: path }, stdio: 'inherit' })
  // A terminal signals the whole group; what is sent to us alone is passed on. Either way we stay until the child is gone.
  const forward = (signal: NodeJS.Signals): void => {
    child.kill(signal)
  }
  const signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']
  for (const signal of signals) process.on(signal, forward)
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('error', (cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT' || cause.code === 'EACCES') resolve(notRunnable(program, cause.code))
        else reject(cause)
      })
      child.once('exit', (code, signal) => {
        resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]))
      })
    })
  } finally {
    for (const signal of signals) process.off(signal, forward)
  }
}

/** As shells do: 127 for a command that is not there, 126 for one that cannot be run. */
function notRunnable(program: string, code: string): number {
  process.stderr.write(
    `polder: ${program}: ${code === 'ENOENT' ? 'command not found in the environment or on PATH' : 'not executable'}\n`,
  )
  return code === 'ENOENT' ? 127 : 126
}
