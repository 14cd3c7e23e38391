declare module 'logic-solver' {
  interface Formula {
    readonly type: string
  }
  interface Solver {
    require(formula: Formula): void
    /** Null if the formulas contradict each other. */
    solve(): object | null
  }
  const Logic: { readonly Solver: new () => Solver; readonly or: (...terms: readonly string[]) => Formula }
  export default Logic
}
