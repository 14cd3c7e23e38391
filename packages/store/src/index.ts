// `./archive` and `./patch` are entries of their own: they load what reads tarballs, manifests and patches, which most
// callers never need.
export { atomicWrite } from './durable/atomic-write.ts'
export { compareWithTree, publishTree } from './trees/built-tree.ts'
export { collectGarbage } from './garbage/collect-garbage.ts'
export {
  artifactPath,
  builtTreeId,
  environmentPath,
  patchedTreeId,
  treeId,
  type Store,
  type TreeId,
} from './content-path.ts'
export { listArtifacts, listTrees } from './artifacts/contents.ts'
export { discard } from './garbage/discard.ts'
export { hasEnvironment, publishEnvironment } from './environments/environments.ts'
export { withLease } from './garbage/leases.ts'
export { openIntake, type Intake } from './artifacts/intake.ts'
export { linkPool, makeSymbolicLink, makeSymbolicLinks, type LinkPool } from './environments/link-pool.ts'
export { openStore, storeHome } from './open.ts'
export {
  discardStagedTrees,
  packedTreeBytes,
  packTree,
  publishStagedTrees,
  stageTree,
  type PackedTree,
  type StagedTree,
} from './trees/packed-tree.ts'
export { livenessOf, ownIdentity, type ProcessIdentity } from './garbage/process-identity.ts'
export { hasArtifact, openArtifact, readArtifact } from './artifacts/read.ts'
export { type FileState, hashFile, openVerified } from './artifacts/open-file.ts'
export { temporaryPath } from './durable/publish.ts'
export type { Patch } from './archives/patch.ts'
export { readRoots, recordRoot } from './environments/roots.ts'
export { hasTree, missingTrees, readTree, unpackTrees, type Tree, type WantedTree } from './trees/trees.ts'
export { discardStaged, publishStaged, stageArtifact } from './artifacts/staging.ts'
export { type Difference, readTreeHashes, verifyArtifacts, verifyTree, type TreeHashes } from './verify.ts'
export { writeArtifact, type StagedArtifact } from './artifacts/write.ts'
export { writeFiles, type FileToWrite } from './durable/write-files.ts'
export { ownSuffix } from './durable/own-suffix.ts'
export { writeFailure } from './durable/write-failure.ts'
export { withWorkDirectory } from './garbage/work-directory.ts'
