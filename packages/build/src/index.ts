export { buildFailure, describeAttempt } from './lifecycle/build-failure.ts'
export { planBuilds, type BuildPlan, type BuildScript, type PlannedBuild } from './lifecycle/build-plan.ts'
export { readBuildRecord, type BuildRecord } from './lifecycle/build-record.ts'
export { runBuilds, type BuildReport } from './lifecycle/run-builds.ts'
export type { PlannedWorkspace } from './workspaces/planned-workspace.ts'
export {
  readWorkspaces,
  rehearseWorkspaces,
  type Rehearsed,
  runWorkspaces,
  type WorkspaceReport,
  type WorkspaceState,
} from './workspaces/run-workspaces.ts'
export type { PreparedCheckout } from './workspaces/workspace-inputs.ts'
export type { WorkspaceRecord } from './workspaces/workspace-record.ts'
export { readToolchain, toolchainIdentity, type Toolchain } from './lifecycle/toolchain.ts'
