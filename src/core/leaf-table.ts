/**
 * Numbers of leaves by root, issuer and hour of expiry.
 * @module
 */

export const HOUR_MS = 3_600_000;

/** Leaves that expire within one hour. */
export type LeafHour = readonly [
  /** Hours since 1970 at its beginning. */
  hour: number,
  leaves: number,
];

/** The leaves of one issuer under one root. */
export interface LeafRow {
  /** Root ID. */
  readonly root: string;
  /** SHA-1 of the issuer's DER in colon hex; the root's own ID if it signs leaves itself. */
  readonly issuer: string;
  /** In order of the hours. */
  readonly hours: readonly LeafHour[];
}

/**
 * A table that is counted in. Its size is at most the issuers times the hours of the longest leaf
 * life.
 */
export class LeafTable {
  /** Leaves by hour, by issuer, by root. */
  readonly #roots = new Map<string, Map<string, Map<number, number>>>();
  // The row that was counted in last: nearly every leaf has the root and issuer of the one before.
  #root = "";
  #issuer = "";
  #hours = new Map<number, number>();

  /**
   * Counts one leaf. It allocates nothing unless root, issuer or hour are new.
   * @param notAfterMs milliseconds since 1970.
   */
  count(root: string, issuer: string, notAfterMs: number): void {
    if (root !== this.#root || issuer !== this.#issuer) {
      this.#hours = this.#rowOf(root, issuer);
      [this.#root, this.#issuer] = [root, issuer];
    }
    const hour = Math.floor(notAfterMs / HOUR_MS);
    this.#hours.set(hour, (this.#hours.get(hour) ?? 0) + 1);
  }

  add(rows: readonly LeafRow[]): void {
    for (const { root, issuer, hours } of rows) {
      const row = this.#rowOf(root, issuer);
      for (const [hour, leaves] of hours) row.set(hour, (row.get(hour) ?? 0) + leaves);
    }
  }

  /** Takes away what was read from this table before; what is 0 then is left out. */
  subtract(rows: readonly LeafRow[]): void {
    for (const { root, issuer, hours } of rows) {
      const row = this.#rowOf(root, issuer);
      for (const [hour, leaves] of hours) {
        const left = (row.get(hour) ?? 0) - leaves;
        if (left > 0) row.set(hour, left);
        else row.delete(hour);
      }
      if (row.size > 0) continue;
      this.#roots.get(root)?.delete(issuer);
      if (this.#roots.get(root)?.size === 0) this.#roots.delete(root);
      [this.#root, this.#issuer, this.#hours] = ["", "", new Map()];
    }
  }

  /** The rows from an hour on, in order of root and issuer. @default all */
  rows(fromHour = Number.NEGATIVE_INFINITY): LeafRow[] {
    const rows: LeafRow[] = [];
    for (const [root, issuers] of this.#roots)
      for (const [issuer, leaves] of issuers) {
        const hours = [...leaves].filter(([hour]) => hour >= fromHour);
        if (hours.length > 0)
          rows.push({ root, issuer, hours: hours.toSorted(([a], [b]) => a - b) });
      }
    return rows.toSorted((a, b) => compare(a.root, b.root) || compare(a.issuer, b.issuer));
  }

  #rowOf(root: string, issuer: string): Map<number, number> {
    const issuers = this.#roots.get(root) ?? new Map<string, Map<number, number>>();
    this.#roots.set(root, issuers);
    const row = issuers.get(issuer) ?? new Map<number, number>();
    issuers.set(issuer, row);
    return row;
  }
}

/** The sum of tables, from an hour on. @default all */
export function sumOfRows(
  tables: readonly (readonly LeafRow[])[],
  fromHour = Number.NEGATIVE_INFINITY,
): LeafRow[] {
  const sum = new LeafTable();
  for (const rows of tables) sum.add(rows);
  return sum.rows(fromHour);
}

/** How many numbers a table has. */
export function sizeOfRows(rows: readonly LeafRow[]): number {
  return rows.reduce((size, { hours }) => size + hours.length, 0);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
