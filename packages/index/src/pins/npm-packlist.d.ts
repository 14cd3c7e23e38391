declare module 'npm-packlist' {
  /** The part of arborist's node that a package without bundled dependencies needs. */
  interface Tree {
    readonly path: string
    readonly package: Readonly<Record<string, unknown>>
    readonly isProjectRoot: boolean
    readonly edgesOut: ReadonlyMap<string, unknown>
  }
  /** The files that npm would publish, relative to the tree's path. */
  export default function packlist(tree: Tree): Promise<string[]>
}
