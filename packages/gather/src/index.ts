export { readAdditions, serializeAdditions } from './additions.ts'
export type { Policy } from './config.ts'
export { otherDeclaredNodes } from './declared-node.ts'
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
export { declaredRequirements, rangeOf } from './specifier.ts'
export { findRoot, parseConfig, readConfig } from './read-config.ts'
export { digestInput, PINS_FILE } from './inputs.ts'
