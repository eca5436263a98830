/**
 * The form of the vectors of supplied roots.
 * @module
 */
import { readFileSync } from "node:fs";

/** The cluster that all of them are roots of. */
export const CLUSTER = "11111111-2222-3333-4444-555555555555";
export const URI = `spiffe://${CLUSTER}.consul`;

export interface RootVector {
  /** What it is. */
  readonly name: string;
  /** How it was made. */
  readonly how: string;
  /** PEM. */
  readonly cert: string;
  /** PEM of a key that is for nothing else. */
  readonly key: string;
  /** A part of the text with which it must be refused; null: it is taken. */
  readonly refused: string | null;
}

/** The vectors that make.ts made. */
export function readRootVectors(): readonly RootVector[] {
  return JSON.parse(
    readFileSync(new URL("./roots.json", import.meta.url), "utf8"),
  ) as readonly RootVector[];
}
