/**
 * A finite resolution problem: slots with candidates, and demands that a slot must meet. It knows no names of
 * ecosystems, no ranges and no files: whoever makes it has compiled those to indices.
 */
export interface Problem {
  /** Slots: install names, sorted by code unit. */
  readonly names: readonly string[]
  /** Per slot the candidates' versions as text, ascending (worst … best); only for reporting. */
  readonly versions: readonly (readonly string[])[]
  /** Demands of the services: always active. */
  readonly roots: readonly Demand[]
  /** `demands[slot][candidate]`: active when that candidate is selected. */
  readonly demands: readonly (readonly (readonly Demand[])[])[]
  /** `lockedCount[slot][candidate]`: in how many locks the candidate stands, what level 4 pays for not keeping it. */
  readonly lockedCount: readonly (readonly number[])[]
}

/** "One of these candidates of that slot must be selected." */
export interface Demand {
  readonly slot: number
  /** Candidate indices that satisfy it, ascending, non-empty. */
  readonly allowed: readonly number[]
  /** Index into a table of owners that the caller keeps; only carried into certificates. */
  readonly owner: number
  /** The candidate that the owner's own lock has, if any: level 4 pays 1 for each active demand that moves off it. */
  readonly locked?: number
}

/** A selection that meets every active demand, with what is proven about it. */
export interface Solution {
  /** Per slot the selected candidates, ascending; empty where nothing needs the slot. */
  readonly selected: readonly (readonly number[])[]
  /** True if no selection is better at any level of the objective. */
  readonly optimal: boolean
  /**
   * No selection has fewer extra copies (Σ(|S(n)|−1)) where `singles` is empty, and none that is best at the levels
   * above has fewer candidates in total (Σ|S(n)|). Equal to the solution's own figures where those are proven.
   */
  readonly lowerBound: { readonly extraCopies: number; readonly total: number }
  /** One for each split slot, ascending by slot. */
  readonly certificates: readonly Certificate[]
}

/** Why a slot has more than one candidate. */
export interface Certificate {
  readonly slot: number
  /** One for each selected candidate, ascending by candidate. Each demand's owner is active in the solution. */
  readonly demands: readonly CertifiedDemand[]
  /** True if the demands are pairwise disjoint: while their owners stay, no fewer candidates can do. */
  readonly proven: boolean
}

/** An active demand that of the selected candidates only `candidate` meets. */
export interface CertifiedDemand extends Demand {
  readonly candidate: number
  /** How many active demands only this selected candidate meets. */
  readonly count: number
}
