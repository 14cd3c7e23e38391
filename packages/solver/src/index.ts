export { solveFewest, type FewestOptions } from './fewest.ts'
export type { Certificate, CertifiedDemand, Demand, Problem, Solution } from './problem.ts'
