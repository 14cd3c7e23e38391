declare module '@yarnpkg/lockfile' {
  interface Lockfile {
    /** `type` tells whether the parser resolved merge conflicts; `object` is pattern → entry. */
    readonly parse: (
      text: string,
      path?: string,
    ) => { readonly type: 'success' | 'merge' | 'conflict'; readonly object: unknown }
  }
  /** Missing where Node does not find it by name. */
  export const parse: Lockfile['parse'] | undefined
  const lockfile: Lockfile
  export default lockfile
}
