/**
 * Detects that the store lost writes, by comparing the stored state with what this replica has
 * seen: a failover to a copy that lagged behind, a restart from an older file, an emptied database.
 * @module
 */
import type { Stored } from "../ports/store.ts";
import type { CaState } from "../state.ts";

/** What this replica has seen. */
export interface Seen {
  readonly state: CaState | null;
  /** The highest term of the lease `operation`. */
  readonly term: number;
}

/** In what the store fell behind what was seen, as the rest of a sentence, or null. */
export function rollbackOf(seen: Seen, stored: Stored): string | null {
  const { state } = stored;
  // Without a state there is nothing that a lost grant of a lease could endanger, and nothing to
  // put into a stop mark.
  if (seen.state === null) return null;
  const { index, commitId } = seen.state;
  if (state === null) return `it holds no state, index ${index} was seen`;
  if (state.index < index) return `it is at index ${state.index}, index ${index} was seen`;
  if (state.index === index && state.commitId !== commitId)
    return `it holds another state under index ${index} than the one that was seen`;
  if (!descends(state, seen.state))
    return `the state at index ${index} that was seen is no ancestor of the one at index ${state.index}`;
  if (stored.term < seen.term)
    return `its highest operation term is ${stored.term}, term ${seen.term} was seen`;
  return null;
}

/** Whether a state descends from another one; true if it names too few ancestors to decide. */
function descends(state: CaState, from: CaState): boolean {
  if (state.commitId === from.commitId || state.ancestors.includes(from.commitId)) return true;
  return state.index - from.index > state.ancestors.length;
}
