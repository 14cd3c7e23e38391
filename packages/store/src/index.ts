// `./archive` and `./patch` are entries of their own: they load what reads tarballs, manifests and patches, which most
// callers never need.
export { atomicWrite } from './atomic-write.ts'
export { compareWithTree, publishTree } from './built-tree.ts'
export { collectGarbage } from './collect-garbage.ts'
export {
  artifactPath,
  builtTreeId,
  environmentPath,
  patchedTreeId,
  treeId,
  type Store,
  type TreeId,
} from './content-path.ts'
export { listArtifacts, listTrees } from './contents.ts'
export { discard } from './discard.ts'
export { hasEnvironment, publishEnvironment } from './environments.ts'
export { withLease } from './leases.ts'
export { openIntake, type Intake } from './intake.ts'
export { linkPool, makeSymbolicLink, type LinkPool } from './link-pool.ts'
export { openStore, storeHome } from './open.ts'
export {
  discardStagedTrees,
  packedTreeBytes,
  packTree,
  publishStagedTrees,
  stageTree,
  type PackedTree,
  type StagedTree,
} from './packed-tree.ts'
export { livenessOf, ownIdentity, type ProcessIdentity } from './process-identity.ts'
export { hasArtifact, openArtifact, readArtifact, type FileState } from './read.ts'
export { temporaryPath } from './publish.ts'
export type { Patch } from './patch.ts'
export { readRoots, recordRoot } from './roots.ts'
export { hasTree, readTree, unpackTrees, type Tree, type WantedTree } from './trees.ts'
export { discardStaged, publishStaged, stageArtifact } from './staging.ts'
export { type Difference, readTreeHashes, verifyArtifacts, verifyTree, type TreeHashes } from './verify.ts'
export { writeArtifact, type StagedArtifact } from './write.ts'
export { writeFiles, type FileToWrite } from './write-files.ts'
export { writeFailure } from './write-failure.ts'
export { withWorkDirectory } from './work-directory.ts'
