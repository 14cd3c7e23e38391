export { readNpmConfig } from './npmrc.ts'
export { readPinned } from './pinned.ts'
export type { PinRequest } from './pin.ts'
export { syncPins, type SyncReport } from './sync.ts'
