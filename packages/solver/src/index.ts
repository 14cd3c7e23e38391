export { renderDerivation } from './explanation.ts'
export { solveFewest, type FewestOptions } from './fewest.ts'
export type { Certificate, CertifiedDemand, Demand, Problem, Solution } from './problem.ts'
export { solveStrict } from './strict.ts'
