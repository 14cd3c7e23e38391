export { readAdditions, serializeAdditions } from './additions.ts'
export { configSchema, findRoot, parseConfig, type Policy, readConfig } from './config.ts'
export { gather } from './gather.ts'
export type {
  Gathered,
  GatheredService,
  LockedEdge,
  ManifestExtension,
  Pin,
  Requirement,
  RequirementKind,
  Target,
} from './gathered.ts'
export { proposeConfig } from './init.ts'
export { digestInput, PINS_FILE } from './inputs.ts'
