export type { PinnedManifest } from './compile.ts'
export { explainSplit, reasonsFor, type SplitExplanation } from './explain.ts'
export { onlyServices } from './subset.ts'
export { flatten, type FlattenReport } from './flatten.ts'
