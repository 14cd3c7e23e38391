export { type Config, configSchema, findRoot, parseConfig, readConfig } from './config.ts'
export { gather } from './gather.ts'
export type { Gathered, GatheredService, Input, LockedEdge, Pin, Requirement, RequirementKind, Source, Target } from './gathered.ts'
export { proposeConfig, type Proposal } from './init.ts'
