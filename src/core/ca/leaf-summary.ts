/**
 * Which roots are needed by how many leaves, and until when.
 * @module
 */

import { HOUR_MS, type LeafRow } from "../leaf-table.ts";
import type { RootEntry } from "../state.ts";
import { maxLeafLifeMs } from "./leaf-issuers.ts";
import { removableAt } from "./root-removal.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Policy } from "./timing-and-limits.ts";

interface LiveLeaves {
  readonly id: string;
  /** About: those of the present hour count as live until it ends. */
  readonly leaves: number;
  /** The end of the hour in which the last of them expires. */
  readonly until: Date;
}

export interface RootLeaves extends LiveLeaves {
  readonly status: RootEntry["status"] | "unpublished";
  /** When the root can be pruned; null unless it is retired. */
  readonly removableAt: Date | null;
  /**
   * The leaves among them that are valid after the root was pruned, or after `removableAt`. Those of an
   * hour that began before are left out: they may expire in time.
   */
  readonly overdue: number;
  readonly issuers: readonly LiveLeaves[];
}

export interface LeafSummary {
  /** Whether this replica counts leaves. */
  readonly isCounting: boolean;
  /** Every leaf that was signed since is counted; null: all are, or none is. */
  readonly completeSince: Date | null;
  /** Whether a live leaf may be missing. */
  readonly isLowerBound: boolean;
  /** The roots with live leaves, the active one first, then the one that is needed longest. */
  readonly roots: readonly RootLeaves[];
}

export const NOT_COUNTING: LeafSummary = {
  isCounting: false,
  completeSince: null,
  isLowerBound: true,
  roots: [],
};

interface Counts {
  readonly rows: readonly LeafRow[];
  /** As in LeafRecord. */
  readonly since: number;
}

/** @param now by the clock of this replica. */
export function summaryOf(
  { rows, since }: Counts,
  snapshot: Pick<Snapshot, "state" | "config">,
  policy: Policy,
  now: Date,
): LeafSummary {
  const nowMs = now.getTime();
  const byRoot = Map.groupBy(rows, ({ root }) => root);
  const roots = [...byRoot].flatMap(([id, rowsOfRoot]): RootLeaves[] => {
    const total = liveLeaves(id, rowsOfRoot, nowMs);
    if (total === null) return [];
    const root = snapshot.state.roots.find((entry) => entry.id === id);
    const removable = root?.status === "retired" ? removableAt(root, policy) : null;
    const lateFromMs = root === undefined ? nowMs : removable?.getTime();
    return [
      {
        ...total,
        status: root?.status ?? "unpublished",
        removableAt: removable,
        overdue: lateFromMs === undefined ? 0 : leavesFrom(rowsOfRoot, Math.max(lateFromMs, nowMs)),
        issuers: rowsOfRoot.flatMap((row) => liveLeaves(row.issuer, [row], nowMs) ?? []),
      },
    ];
  });
  return {
    isCounting: true,
    completeSince: since === 0 ? null : new Date(since),
    isLowerBound: since > 0 && since + maxLeafLifeMs(snapshot, policy) > nowMs,
    roots: roots.toSorted(
      (a, b) =>
        Number(b.status === "active") - Number(a.status === "active") ||
        b.until.getTime() - a.until.getTime(),
    ),
  };
}

/** The leaves of hours that have not ended; null without any. */
function liveLeaves(id: string, rows: readonly LeafRow[], nowMs: number): LiveLeaves | null {
  const hours = rows.flatMap(({ hours }) => hours).filter(([hour]) => (hour + 1) * HOUR_MS > nowMs);
  const leaves = hours.reduce((sum, [, count]) => sum + count, 0);
  if (leaves === 0) return null;
  return { id, leaves, until: new Date(Math.max(...hours.map(([hour]) => hour + 1)) * HOUR_MS) };
}

/** The leaves of hours that begin at an instant or later. */
function leavesFrom(rows: readonly LeafRow[], fromMs: number): number {
  return rows
    .flatMap(({ hours }) => hours)
    .reduce((sum, [hour, count]) => sum + (hour * HOUR_MS >= fromMs ? count : 0), 0);
}

/** The leaves that outlive their root, a clause for each such root. */
export function overdueTexts({ roots }: LeafSummary): string[] {
  return roots
    .filter(({ overdue }) => overdue > 0)
    .map(({ id, overdue, until, removableAt: at }) => {
      const leaves = `at least ${overdue} ${overdue === 1 ? "leaf" : "leaves"} of root ${id}`;
      const end = `valid until ${until.toISOString()}`;
      const mend = "make their holders renew now, or they are refused";
      return at === null
        ? `${leaves}, which is not published any more, ${overdue === 1 ? "is" : "are"} ${end}; ${mend}`
        : `${leaves}, which can be pruned from ${at.toISOString()} on, ${overdue === 1 ? "is" : "are"} ${end}; ${mend}`;
    });
}
