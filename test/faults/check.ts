/**
 * The invariants of a history, as pure functions from a history to its violations.
 * @module
 */
import type { CaState } from "../../src/core/state.ts";
import { wireIndex } from "../../src/http/ca-json.ts";
import type { Change, History, Line, StoreEvent } from "./history.ts";
import { brokenPairs } from "./pairs.ts";

export interface Violation {
  readonly rule:
    | "active-root"
    | "index-back"
    | "write-lost"
    | "term-back"
    | "term-below-grant"
    | "grant-back"
    | "write-while-stopped"
    | "adopted-unknown"
    | "adopted-back"
    | "read-unknown"
    | "read-back"
    | "read-after-change"
    | "change-unmade"
    | "change-refused-but-made"
    | "rotated-unasked"
    | "change-lost"
    | "pair-fails";
  readonly text: string;
}

/** Everything in a history that must not be. */
export async function check(history: History): Promise<Violation[]> {
  return [
    ...history.lines.flatMap(checkLine),
    ...checkAdoptions(history),
    ...checkReads(history),
    ...checkChanges(history),
    ...(await brokenPairs(history)).map((text) => ({ rule: "pair-fails", text }) as const),
  ];
}

/** What one Redis accepted: indexes, terms, ancestors and stop marks. */
export function checkLine({ server, events }: Line): Violation[] {
  const found: Violation[] = [];
  const fault = (rule: Violation["rule"], text: string) =>
    found.push({ rule, text: `${server}: ${text}` });
  let last: { readonly state: CaState | null; readonly term: number } = { state: null, term: 0 };
  let granted = 0;
  let marked = false;
  events.forEach((event, i) => {
    switch (event.kind) {
      case "found":
        [last, granted] = [{ state: event.state, term: event.writtenUnder }, event.granted];
        break;
      case "grant":
        if (event.term <= granted && event.holder !== "")
          fault("grant-back", `term ${event.term} was granted after ${granted}`);
        granted = Math.max(granted, event.term);
        break;
      case "mark":
        marked = true;
        break;
      case "unmark":
        marked = false;
        break;
      case "write": {
        const { state, term } = event;
        const name = `the write of index ${state.index} (${state.commitId}) under term ${term}`;
        const active = state.roots.filter(({ status }) => status === "active").length;
        if (active !== 1) fault("active-root", `${name} has ${active} active roots`);
        if (last.state !== null && state.index <= last.state.index)
          fault("index-back", `${name} came after index ${last.state.index}`);
        if (last.state !== null && !state.ancestors.includes(last.state.commitId))
          fault(
            "write-lost",
            `${name} does not come from index ${last.state.index} (${last.state.commitId}), which it replaced`,
          );
        if (term < last.term)
          fault("term-back", `${name} came after a write under term ${last.term}`);
        if (term < granted)
          fault("term-below-grant", `${name} came after term ${granted} was granted`);
        // The script takes the mark away within the write that resolves it, before or after a term
        // is raised.
        const resolves = events.slice(i + 1, i + 3).some(({ kind }) => kind === "unmark");
        if (marked && !resolves)
          fault("write-while-stopped", `${name} was accepted while changes were stopped`);
        last = { state, term };
        break;
      }
    }
  });
  return found;
}

/** Every state that any Redis accepted or held, by commit id. */
export function acceptedStates(lines: readonly Line[]): Map<string, CaState> {
  const states = lines.flatMap(({ events }) =>
    events.flatMap((event: StoreEvent) =>
      "state" in event && event.kind !== "mark" && event.state !== null ? [event.state] : [],
    ),
  );
  return new Map(states.map((state) => [state.commitId, state]));
}

function checkAdoptions({ lines, adoptions }: History): Violation[] {
  const found: Violation[] = [];
  const accepted = acceptedStates(lines);
  const highest = new Map<string, number>();
  for (const { replica, index, commitId } of adoptions) {
    if (accepted.get(commitId)?.index !== index)
      found.push({
        rule: "adopted-unknown",
        text: `${replica} took index ${index} (${commitId}) into use, which no store accepted`,
      });
    const before = highest.get(replica) ?? 0;
    if (index < before)
      found.push({
        rule: "adopted-back",
        text: `${replica} went back from index ${before} to ${index}`,
      });
    highest.set(replica, Math.max(before, index));
  }
  return found;
}

/** The roots of a state as its readers see them: which are listed, and which is active. */
const listing = (active: string, roots: readonly string[]) =>
  JSON.stringify([active, ...roots.toSorted()]);

function checkReads({ lines, reads, changes }: History): Violation[] {
  const found: Violation[] = [];
  const listings = new Map<number, Set<string>>();
  for (const state of acceptedStates(lines).values()) {
    const index = wireIndex(state);
    const active = state.roots.find(({ status }) => status === "active")?.id ?? "";
    const ids = state.roots.map(({ id }) => id);
    listings.set(index, (listings.get(index) ?? new Set()).add(listing(active, ids)));
  }
  for (const read of reads) {
    const name = `${read.replica} answered ${read.client} with index ${read.index}`;
    const active = read.roots.filter((root) => root.active).map(({ id }) => id);
    if (active.length !== 1 || active[0] !== read.activeRootId)
      found.push({ rule: "active-root", text: `${name} and ${active.length} active roots` });
    const ids = read.roots.map(({ id }) => id);
    if (listings.get(read.index)?.has(listing(read.activeRootId, ids)) !== true)
      found.push({
        rule: "read-unknown",
        text: `${name} and roots that no state accepted under that index has`,
      });
    const later = reads.find(
      ({ replica, begin, index }) =>
        replica === read.replica && begin > read.end && index < read.index,
    );
    if (later !== undefined)
      found.push({ rule: "read-back", text: `${name}, and later with index ${later.index}` });
  }
  for (const change of changes) {
    if (change.outcome !== "made") continue;
    const made = madeBy(change, lines)[0];
    if (made === undefined) continue;
    const stale = reads.find(
      ({ replica, begin, index }) =>
        replica === change.replica &&
        begin > change.end &&
        index < Math.min(made.index, wireIndex(made)),
    );
    if (stale !== undefined)
      found.push({
        rule: "read-after-change",
        text: `${change.replica} answered with index ${stale.index} after it had made index ${made.index}`,
      });
  }
  return found;
}

/** The states that a change made, the earliest first, on every line. */
function madeBy({ asked }: Change, lines: readonly Line[]): CaState[] {
  const has = (state: CaState) =>
    "leafTtl" in asked
      ? state.config.config?.LeafCertTTL === asked.leafTtl
      : state.roots.some(({ id, status }) => status === "active" && id === asked.rootId);
  return [...acceptedStates(lines).values()].filter(has).toSorted((a, b) => a.index - b.index);
}

function checkChanges(history: History): Violation[] {
  const { lines, changes, last, lossy } = history;
  const found: Violation[] = [];
  const states = acceptedStates(lines);
  const kept = chainOf(last.state, states);
  const reported = new Set(
    lines.flatMap(({ events }) =>
      events.flatMap((e) => (e.kind === "mark" ? [...chainOf(e.state, states)] : [])),
    ),
  );
  for (const change of changes) {
    const name = `${change.client}'s change by ${change.replica} (${JSON.stringify(change.asked)})`;
    const [made] = madeBy(change, lines);
    if (change.outcome === "refused" && made !== undefined)
      found.push({
        rule: "change-refused-but-made",
        text: `${name} was refused (${change.answer}) and stands as index ${made.index}`,
      });
    if (change.outcome !== "made") continue;
    if (made === undefined)
      found.push({
        rule: "change-unmade",
        text: `${name} was acknowledged, and no store accepted it`,
      });
    else if (!kept.has(made.commitId) && !(lossy && reported.has(made.commitId)))
      found.push({
        rule: "change-lost",
        text: `${name} was acknowledged as index ${made.index}, and is not in what came of it`,
      });
  }
  return [...found, ...checkRotations(states, changes)];
}

/**
 * A refused rotation leaves no name to look for: there may be no more roots than were asked for.
 */
function checkRotations(
  states: ReadonlyMap<string, CaState>,
  changes: readonly Change[],
): Violation[] {
  const roots = new Set([...states.values()].flatMap((state) => state.roots.map(({ id }) => id)));
  const first = [...states.values()].toSorted((a, b) => a.index - b.index)[0];
  const known = new Set(first?.roots.map(({ id }) => id));
  const asked = changes.filter(
    (change) => change.outcome !== "refused" && "rootId" in change.asked,
  ).length;
  const made = [...roots].filter((id) => !known.has(id)).length;
  return made <= asked
    ? []
    : [
        {
          rule: "rotated-unasked",
          text: `there are ${made} new roots, and ${asked} rotations that may have made one`,
        },
      ];
}

/** A state's commit id and those of all that it came from. */
function chainOf(state: CaState, states: ReadonlyMap<string, CaState>): Set<string> {
  const chain = new Set<string>();
  const open = [state.commitId, ...state.ancestors];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (chain.has(id)) continue;
    chain.add(id);
    open.push(...(states.get(id)?.ancestors ?? []));
  }
  return chain;
}
