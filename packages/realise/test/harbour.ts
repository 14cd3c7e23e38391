import type { LockSpec } from './world.ts'

const command = (text: string): string => `#!/usr/bin/env node\nconsole.log(${JSON.stringify(text)})\n`

/**
 * One lock with everything in it:
 * - `ink` at the root and a variant of it which has a variant below itself (`pigment@1` → `binder@1`)
 * - `dialog` in two peer contexts, `old-ink` an alias, `@port/crane` scoped, with a scoped dependency that differs
 * - `packer` bundles `pigment`; `loop@2` depends on `loop@1`
 * - `@harbour/tide` a workspace package that the third-party `gauge` has as its peer
 * - `watch-darwin` for another platform, with a dependency that only it has
 * - two packages that offer `tool`
 */
export const HARBOUR: LockSpec = {
  services: {
    '.': { uses: { ink: 'ink@2.0.0' } },
    'packages/tide': { name: '@harbour/tide', uses: { ink: 'ink@2.0.0' }, bin: { tide: 'cli.js' } },
    'services/office': {
      uses: {
        ink: 'ink@1.0.0',
        dialog: 'dialog@1.0.0(ink@1.0.0)',
        '@harbour/tide': 'link:packages/tide',
        gauge: 'gauge@1.0.0',
        'tool-b': 'tool-b@1.0.0',
      },
    },
    'services/office/desk': { uses: { ink: 'ink@2.0.0', dialog: 'dialog@1.0.0(ink@1.0.0)' } },
    'services/quay': {
      uses: {
        dialog: 'dialog@1.0.0(ink@2.0.0)',
        'old-ink': 'old-ink@npm:ink@1.0.0',
        '@port/crane': '@port/crane@1.0.0',
        packer: 'packer@1.0.0',
        loop: 'loop@2.0.0',
        'watch-darwin': 'watch-darwin@1.0.0',
        'tool-a': 'tool-a@1.0.0',
        gauge: 'gauge@2.0.0',
      },
    },
  },
  instances: {
    'ink@2.0.0': { links: { pigment: 'pigment@2.0.0' } },
    'ink@1.0.0': { links: { pigment: 'pigment@1.0.0', paper: 'paper@1.0.0' } },
    'old-ink@npm:ink@1.0.0': { links: { pigment: 'pigment@1.0.0', paper: 'paper@1.0.0' } },
    'pigment@2.0.0': { links: { binder: 'binder@2.0.0' } },
    'pigment@1.0.0': { links: { binder: 'binder@1.0.0', pigment: 'pigment@2.0.0' } },
    'binder@2.0.0': {},
    'binder@1.0.0': { links: { paper: 'paper@1.0.0' } },
    'paper@1.0.0': {},
    'dialog@1.0.0(ink@2.0.0)': { links: { ink: 'ink@2.0.0' } },
    'dialog@1.0.0(ink@1.0.0)': { links: { ink: 'ink@1.0.0' } },
    '@port/crane@1.0.0': { links: { '@port/hook': '@port/hook@1.0.0' } },
    '@port/hook@1.0.0': { links: { '@port/crane': '@port/crane@1.0.0' } },
    '@port/hook@2.0.0': {},
    'packer@1.0.0': {
      links: { pigment: 'pigment@1.0.0', binder: 'binder@1.0.0' },
      files: {
        'node_modules/pigment/package.json': '{"name":"pigment","version":"9.9.9"}',
        'node_modules/pigment/index.js': '',
      },
      needsBuild: true,
    },
    'loop@2.0.0': { links: { loop: 'loop@1.0.0' } },
    'loop@1.0.0': { links: { loop: 'loop@1.0.0' } },
    'gauge@1.0.0': { inCheckout: true, links: { '@harbour/tide': 'link:packages/tide', scale: 'scale@1.0.0' } },
    'gauge@2.0.0': { links: { scale: 'scale@2.0.0' } },
    'scale@1.0.0': { inCheckout: true, links: { gauge: 'gauge@1.0.0', ink: 'ink@1.0.0' } },
    'scale@2.0.0': { links: { gauge: 'gauge@2.0.0' } },
    'watch-darwin@1.0.0': { optional: true, os: ['darwin'], links: { 'fs-events': 'fs-events@1.0.0' } },
    'fs-events@1.0.0': { optional: true },
    'tool-a@1.0.0': { bin: { tool: 'bin/tool.js' }, files: { 'bin/tool.js': command('a') } },
    'tool-b@1.0.0': { bin: { tool: 'bin/tool.js', other: 'bin/tool.js' }, files: { 'bin/tool.js': command('b') } },
  },
  root: [
    'ink@2.0.0',
    'old-ink@npm:ink@1.0.0',
    'pigment@2.0.0',
    'binder@2.0.0',
    'paper@1.0.0',
    'dialog@1.0.0(ink@2.0.0)',
    '@port/crane@1.0.0',
    '@port/hook@2.0.0',
    'packer@1.0.0',
    'loop@2.0.0',
    'gauge@1.0.0',
    'scale@2.0.0',
    'watch-darwin@1.0.0',
    'fs-events@1.0.0',
    'tool-a@1.0.0',
    'tool-b@1.0.0',
  ],
  workspace: { '@harbour/tide': 'link:packages/tide' },
}

/** What the walk must not find on Linux. */
export const ABSENT_ON_LINUX: ReadonlySet<string> = new Set(['watch-darwin@1.0.0', 'fs-events@1.0.0'])
