import { Command, Option } from 'commander'

import type { AddFlags } from './commands/index-add.ts'
import type { ExportFlags } from './commands/index-export.ts'
import type { ImportFlags } from './commands/index-import.ts'
import type { ServeFlags } from './commands/index-serve.ts'
import type { Output, OutputFlags } from './output.ts'
import { polderVersion } from './version.ts'

interface LockFlags {
  check: boolean
  offline: boolean
  dryRun: boolean
  acceptKeys: boolean
  service: string[]
}

type Action = (output: Output) => Promise<number> | number
type Perform = (flags: OutputFlags, action: Action) => Promise<void>

/** Every command with its options. Each command's own code is loaded when it is asked for. */
export function commandLine(perform: Perform): Command {
  const cwd = process.cwd()
  const program = new Command('polder')
    .description('One flattened environment and one pinned index for every service of a monorepo.')
    .version(polderVersion(), '-V, --version')
    .exitOverride()
    .enablePositionalOptions()
    .configureOutput({ outputError: () => undefined, writeErr: () => undefined })
    .showSuggestionAfterError()
    .helpCommand(true)
    // That a flag is off unless it is given, and a list is empty, goes without saying.
    .configureHelp({
      optionDescription: ({ description, argChoices, defaultValue }) =>
        [
          description,
          ...(argChoices === undefined ? [] : [`(${argChoices.join(' or ')})`]),
          ...(typeof defaultValue === 'string' ? [`(default: ${defaultValue})`] : []),
        ].join(' '),
    })
    .addHelpText('after', '\nStart with `polder init`, then `polder lock` (network) and `polder install` (none).')

  const command = (parent: Command, name: string, description: string): Command =>
    parent
      .command(name)
      .description(description)
      .option('--json', 'print the result as one JSON document')
      .option('-q, --quiet', 'print nothing but results and errors')
      .option('--verbose', 'print stack traces and everything that is otherwise cut short')

  command(program, 'init', 'find the services below this directory and write polder.yaml').action(
    (flags: OutputFlags) => perform(flags, async (output) => (await import('./commands/init.ts')).init(cwd, output)),
  )

  command(program, 'lock', 'gather, fetch what is missing, flatten, and write polder.lock')
    .option('--check', 'write nothing; fail with exit code 3 if polder.lock is out of date', false)
    .option('--offline', 'use what the index holds; ask no upstream', false)
    .option('--dry-run', 'report what would be locked and write nothing', false)
    .option('--accept-keys', 'pin the signing keys that the registries have now, and show what changed', false)
    .option('--service <service>', 'in a dry run: only this service (may be given several times)', append, [])
    .action((flags: OutputFlags & LockFlags) =>
      perform(flags, async (output) => (await import('./commands/lock.ts')).lock(cwd, output, flags)),
    )

  command(program, 'install', 'realise the locked environment in this checkout; never touches the network')
    .addOption(
      new Option('--layout <layout>', 'links into the shared environment, or everything inside the checkout').choices([
        'linked',
        'self-contained',
      ]),
    )
    .option('--force', 'replace a node_modules that another tool made', false)
    .option('--require-sandbox', 'refuse to run install scripts that cannot be confined (the default in CI)')
    .option('--no-require-sandbox', 'run them unconfined, and say so, where this machine has no sandbox')
    .action((flags: OutputFlags & { layout?: 'linked' | 'self-contained'; force: boolean; requireSandbox?: boolean }) =>
      perform(flags, async (output) => (await import('./commands/install.ts')).install(cwd, output, flags)),
    )

  command(program, 'builds', 'list the builds of the lock: what ran, how long, and what it tried to reach')
    .argument('[names...]', 'only these packages, with everything that is known of them')
    .option('--learn', 'build them again and propose the pins for what they tried to fetch', false)
    .action((names: string[], flags: OutputFlags & { learn: boolean }) =>
      perform(flags, async (output) => (await import('./commands/builds.ts')).builds(cwd, output, names, flags)),
    )

  command(program, 'approve', 'show the install scripts of packages that are not built, and allow them in polder.yaml')
    .argument('[names...]', 'only these packages')
    .option('-y, --yes', 'allow them without asking', false)
    .action((names: string[], flags: OutputFlags & { yes: boolean }) =>
      perform(flags, async (output) => (await import('./commands/approve.ts')).approve(cwd, output, names, flags)),
    )

  command(program, 'exec', "run a command with the environment's commands on the path: polder exec -- CMD")
    .option('--service <service>', 'in the directory and with the commands of this service')
    .argument('<command...>')
    .passThroughOptions()
    .action((words: string[], flags: OutputFlags & { service?: string }) =>
      perform(flags, async () => (await import('./commands/run.ts')).exec(cwd, words, flags.service)),
    )

  command(program, 'run', 'run a script of a service, or from the root of every service that has it')
    .option('--service <service>', 'of this service (may be given several times)', append, [])
    .argument('<script>')
    .argument('[args...]', 'passed on to the script; those that begin with a dash go behind --')
    .action((script: string, args: string[], flags: OutputFlags & { service: string[] }) =>
      perform(flags, async (output) =>
        (await import('./commands/run.ts')).run(cwd, script, args, flags.service, output),
      ),
    )

  command(program, 'shell', 'start your shell inside the environment')
    .option('--service <service>', 'in the directory and with the commands of this service')
    .action((flags: OutputFlags & { service?: string }) =>
      perform(flags, async (output) => (await import('./commands/run.ts')).shell(cwd, flags.service, output)),
    )

  command(program, 'why', 'who needs a package, with which ranges, and why it is this version')
    .option('--service <service>', "only over this service's dependencies")
    .argument('<name>')
    .action((name: string, flags: OutputFlags & { service?: string }) =>
      perform(flags, async (output) => (await import('./commands/why.ts')).why(cwd, name, flags.service, output)),
    )

  command(program, 'explain', 'why names are kept at several versions: the demands, who makes them, what would mend it')
    .argument('[names...]', 'all of them if none is named')
    .action((names: string[], flags: OutputFlags) =>
      perform(flags, async (output) => (await import('./commands/explain.ts')).explain(cwd, names, output)),
    )

  command(program, 'dedupe-check', 'fail if a name has more than one version')
    .option(
      '--only <names>',
      'only these, separated by commas',
      (text) => text.split(',').filter((name) => name !== ''),
      [],
    )
    .action((flags: OutputFlags & { only: string[] }) =>
      perform(flags, async (output) => (await import('./commands/explain.ts')).dedupeCheck(cwd, flags.only, output)),
    )

  command(program, 'status', 'where this checkout stands, in five lines').action((flags: OutputFlags) =>
    perform(flags, async (output) => (await import('./commands/status.ts')).status(cwd, output)),
  )

  command(program, 'verify', 'recompute the hashes of environment and store; fail with exit code 5 if a file differs')
    .option('--repair', 'make what differs again, from the artifacts', false)
    .option('--rebuild <name>', 'build this package again, and compare what comes out', append, [])
    .action((flags: OutputFlags & { repair: boolean; rebuild: string[] }) =>
      perform(flags, async (output) =>
        flags.rebuild.length > 0
          ? (await import('./commands/verify-rebuild.ts')).verifyRebuild(cwd, output, flags.rebuild)
          : (await import('./commands/verify.ts')).verify(cwd, output, flags.repair),
      ),
    )

  command(program, 'diff', 'what changes for whom between two locks')
    .argument('<old>')
    .argument('<new>')
    .action((before: string, after: string, flags: OutputFlags) =>
      perform(flags, async (output) => (await import('./commands/diff.ts')).diff(before, after, output)),
    )

  const exporting = program.command('export').description("write the lock in another tool's format")
  command(exporting, 'pnpm-lock', 'as a pnpm-lock.yaml with every service as an importer')
    .option('--output <directory>', 'write it there instead of to stdout, with a pnpm-workspace.yaml if there is none')
    .action((flags: OutputFlags & { output?: string }) =>
      perform(flags, async (output) => (await import('./commands/export.ts')).exportPnpm(cwd, flags.output, output)),
    )
  command(exporting, 'package-lock', 'as a package-lock.json with every service as a workspace')
    .option('--output <directory>', 'write it there instead of to stdout, with a package.json if there is none')
    .action((flags: OutputFlags & { output?: string }) =>
      perform(flags, async (output) => (await import('./commands/export.ts')).exportNpm(cwd, flags.output, output)),
    )

  const index = program.command('index').description('the pinned index')
  command(index, 'sync', 'fetch every pin that the index lacks, and what registries say of it')
    .option('--check', 'only compare with the upstreams; exit code 3 if they say something else', false)
    .action((flags: OutputFlags & { check: boolean }) =>
      perform(flags, async (output) => (await import('./commands/index-sync.ts')).indexSync(cwd, output, flags.check)),
    )

  command(index, 'add', 'pin what no lockfile has: a tarball, a workspace package, a file by its URL')
    .argument('[what...]', 'tarballs and URLs; with --workspace names of workspace packages')
    .option('--workspace', 'pack workspace packages, all that have a name and a version unless some are named', false)
    .option('--private', 'never ask a public upstream for these names', false)
    .option('--sha512 <hash>', 'what the file at the URL has to be: hex, or sha512-<base64>')
    .option('--as <url>', 'pin the file at hand as the one at this URL')
    .option('--for <tool>', 'who asks for it: a tool, a package with prebuilt binaries, or VARIABLE=BASE')
    .option('--trust-first', 'pin what the URL gives now, whatever it is', false)
    .action((what: string[], flags: OutputFlags & AddFlags) =>
      perform(flags, async (output) => (await import('./commands/index-add.ts')).indexAdd(cwd, output, what, flags)),
    )
  command(index, 'remove', 'take back what index add pinned')
    .argument('<what...>', 'packages as name@version or name, files by their URL')
    .action((what: string[], flags: OutputFlags) =>
      perform(flags, async (output) => (await import('./commands/index-remove.ts')).indexRemove(cwd, output, what)),
    )
  command(index, 'list', 'what is pinned, and what of it the store has').action((flags: OutputFlags) =>
    perform(flags, async (output) => (await import('./commands/index-list.ts')).indexList(cwd, output)),
  )
  command(index, 'env', 'the variables that point clients and tools at a served index, for a shell to read')
    .option('--url <url>', 'where the index is served', 'http://127.0.0.1:4873/')
    .action((flags: OutputFlags & { url: string }) =>
      perform(flags, async (output) => (await import('./commands/index-env.ts')).indexEnv(cwd, output, flags.url)),
    )
  command(index, 'export', 'everything that the lock pins, in one file to carry elsewhere')
    .argument('<file>')
    .option('--service <service>', 'only what this service needs (may be given several times)', append, [])
    .option('--since <lock>', 'only what this older lock does not have')
    .option(
      '--with-candidates',
      'also what the lockfiles have and the lock did not choose, to lock anew from it',
      false,
    )
    .action((file: string, flags: OutputFlags & ExportFlags) =>
      perform(flags, async (output) =>
        (await import('./commands/index-export.ts')).indexExport(cwd, output, file, flags),
      ),
    )
  command(index, 'import', 'bring what export wrote into the store: all of it verified, or nothing')
    .argument('<file>')
    .option('--write-lock', 'write its polder.lock into this repository', false)
    .action((file: string, flags: OutputFlags & ImportFlags) =>
      perform(flags, async (output) =>
        (await import('./commands/index-import.ts')).indexImport(cwd, output, file, flags),
      ),
    )
  command(index, 'verify', 'hash everything again that the lock pins; exit code 5 if something is damaged')
    .option('--all', 'the whole store, and not only what the lock pins', false)
    .option('--heal', 'bring what is damaged again from the upstreams', false)
    .option('--from <file>', 'bring what is damaged again from a bundle')
    .action((flags: OutputFlags & { all: boolean; heal: boolean; from?: string }) =>
      perform(flags, async (output) => (await import('./commands/index-verify.ts')).indexVerify(cwd, output, flags)),
    )

  command(index, 'serve', 'serve what is pinned, and nothing else, to npm, pnpm, yarn and bun; never asks an upstream')
    .option(
      '--lock <file>',
      'a lock to serve (may be given several times; default: that of this repository)',
      append,
      [],
    )
    .option('--host <address>', 'where to listen: a loopback address', '127.0.0.1')
    .option('--port <number>', 'where to listen; 0 takes a free port', '4873')
    .option('--socket <path>', 'listen on a unix socket instead, which only you can use')
    .option('--base-url <url>', 'what tarball URLs begin with (default: where it listens)')
    .option('--memory <megabytes>', 'for documents and tarballs that are ready to be sent', '256')
    .option('--workers <number>', 'processes that share the work', '1')
    .option('--log [file]', 'a line of JSON for every request, to stderr or a file')
    .action((flags: OutputFlags & ServeFlags) =>
      perform(flags, async (output) => (await import('./commands/index-serve.ts')).indexServe(cwd, output, flags)),
    )
  command(index, 'refused', 'what the servers of this store were asked for that is not pinned: who, what, how often')
    .option('--clear', 'forget it after printing it', false)
    .action((flags: OutputFlags & { clear: boolean }) =>
      perform(flags, async (output) => (await import('./commands/index-refused.ts')).indexRefused(output, flags)),
    )

  const store = program.command('store').description('the store that all checkouts share')
  command(store, 'gc', 'remove environments and trees that no checkout uses; safe beside a running install').action(
    (flags: OutputFlags) => perform(flags, async (output) => (await import('./commands/store-gc.ts')).storeGc(output)),
  )
  return program
}

function append(value: string, previous: readonly string[]): string[] {
  return [...previous, value]
}
