declare module '@yarnpkg/lockfile' {
  const lockfile: { readonly parse: (text: string, path?: string) => { readonly type: string; readonly object: unknown } }
  export default lockfile
}
