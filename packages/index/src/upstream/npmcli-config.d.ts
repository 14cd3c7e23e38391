// @npmcli/config ships no types; these are the parts that npmrc.ts uses.
declare module '@npmcli/config' {
  interface ConfigOptions {
    readonly definitions: object
    readonly shorthands: object
    readonly flatten: object
    readonly nerfDarts: readonly string[]
    /** The directory of npm itself; its `npmrc` is the builtin configuration. */
    readonly npmPath: string
    readonly env: NodeJS.ProcessEnv
    readonly argv: readonly string[]
    readonly execPath: string
    readonly cwd: string
    readonly warn: boolean
  }
  interface ConfigData {
    readonly source: string | null
    readonly loadError: NodeJS.ErrnoException | undefined
    /** Only what this source itself has is its own property. */
    readonly data: Readonly<Record<string, unknown>>
  }
  export default class Config {
    constructor(options: ConfigOptions)
    protected localPrefix: string | null
    protected readonly cwd: string
    readonly data: ReadonlyMap<string, ConfigData>
    readonly flat: Readonly<Record<string, unknown>>
    load(): Promise<void>
    loadLocalPrefix(): Promise<void>
    find(key: string): string | null
    get(key: string): unknown
  }
}

declare module '@npmcli/config/lib/definitions/index.js' {
  export const definitions: object
  export const shorthands: object
  export const flatten: object
  export const nerfDarts: readonly string[]
}
