export type { PinnedManifest } from './compile.ts'
export { flatten, type Flattened, type FlattenReport, type Move } from './flatten.ts'
export type { UnmetPeer } from './resolve.ts'
export { explainSplit, reasonsFor, type Reason, type SplitExplanation } from './explain.ts'
