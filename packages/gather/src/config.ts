/** `polder.yaml`, with every default filled in. */
export interface Config {
  /** Directories or globs, as written; null means that services are discovered. */
  readonly services: readonly string[] | null
  /** Globs of directories that are no services. */
  readonly exclude: readonly string[]
  /** As `platformName` writes them, sorted. */
  readonly platforms: readonly string[]
  readonly policy: Policy
  /** Of `policy` as well: what a version has to be that polder.lock does not have yet. */
  readonly newPins: NewPinPolicy
  readonly layout: 'linked' | 'self-contained'
  readonly builds: Builds
  readonly index: {
    /** Names of packages that may be pinned although their lockfile has no hash for them. Sorted. */
    readonly allowWeakIntegrity: readonly string[]
    /** Names, or patterns such as `@scope/*`, that no public registry is asked for. Sorted. */
    readonly private: readonly string[]
    /** Whether registry signatures are checked, and whether every release needs one. */
    readonly signatures: 'verify' | 'required' | 'off'
    /** A Sigstore trusted root, relative to the repository. */
    readonly trustedRoot: string | null
  }
}

/** Which packages may run their install scripts, and with what. */
export interface Builds {
  /** Name → range of versions. */
  readonly allow: Readonly<Record<string, string>>
  /** Name → variables for its scripts. */
  readonly env: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** Path of a workspace package that may run its own scripts → what else of the repository they read. */
  readonly workspaces: Readonly<Record<string, readonly string[]>>
  /** What one build may take, where that is not the default. */
  readonly limits: BuildLimits
}

export interface BuildLimits {
  readonly minutes?: number
  readonly memoryMB?: number
  readonly processes?: number
  readonly outputMB?: number
  readonly diskMB?: number
}

export interface NewPinPolicy {
  /** Minutes since the recorded date of publication; 0 for none. */
  readonly minimumReleaseAge: number
  /** What may be younger: names, patterns, or either with a range (`@scope/*`, `react@^19.0.0`). Sorted. */
  readonly minimumReleaseAgeExclude: readonly string[]
  /** Of the same form. Everything may be pinned if it is empty. Sorted. */
  readonly allow: readonly string[]
  /** Of the same form; stronger than `allow`. Sorted. */
  readonly deny: readonly string[]
}

/** How versions are chosen. */
export interface Policy {
  /** `fewest` copies of each package, or for each requirement the `highest` version that some lockfile has. */
  readonly versions: 'fewest' | 'highest'
  /** Whether a version that a service writes exactly may move to a compatible one (`^`) that others have: `soft`. */
  readonly pins: 'hard' | 'soft'
  /**
   * Whether a required package has to be for the Node that runs (`engines.node`). Null for what the clients say:
   * `gather` turns it into `strict` where npm's `engine-strict` or pnpm's `engineStrict` is set, and into `warn`.
   */
  readonly engines: 'warn' | 'strict' | null
  /** Names that must not be split, sorted. */
  readonly single: readonly string[]
  /** Names that keep what each lockfile has, with the reason. */
  readonly split: Readonly<Record<string, string>>
}
