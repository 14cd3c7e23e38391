declare module '@yarnpkg/lockfile' {
  /** `type` tells whether the parser resolved merge conflicts; `object` is pattern → entry. */
  export function parse(
    text: string,
    path?: string,
  ): { readonly type: 'success' | 'merge' | 'conflict'; readonly object: unknown }
}
