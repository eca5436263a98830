/**
 * Verifiers whose clock is behind. A TLS library takes the system's clock, so openssl, whose clock
 * can be set, verifies what was presented to them.
 * @module
 */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { inLanes, type Leaf, newFolder, type Roots, remove } from "./harness.ts";

/** How far they are behind. */
export const BEHIND_MS = 30_000;

export interface LateVerifiers {
  /**
   * How many verifications were asked for, and how many runs of openssl and leaves in them answered
   * for those.
   */
  readonly counts: { readonly asked: number; readonly runs: number; readonly distinct: number };
  /** Notes that a verifier, `BEHIND_MS` behind, has this leaf presented now. */
  note(leaf: Leaf, roots: Roots): void;
  /** Verifies the recorded chains. @returns openssl's text of failures. */
  settle(): Promise<string[]>;
  close(): void;
}

/**
 * Verifiers whose clock is behind. The first time that a leaf meets a root set decides for all
 * later ones: time only takes it further into its validity, which ends days after the test.
 */
export function createLateVerifiers(): LateVerifiers {
  const folder = newFolder();
  const counts = { asked: 0, runs: 0, distinct: 0 };
  const files = new Map<string, string>();
  const seen = new Set<string>();
  /** Leaves that can be verified in one run, since chain, roots and second are the same. */
  let groups = new Map<string, { chain: string; roots: Roots; at: Date; leaves: Leaf[] }>();
  const fileOf = (text: string): string => {
    const path = files.get(text) ?? join(folder, `${files.size}.pem`);
    if (!files.has(text)) writeFileSync(path, text);
    files.set(text, path);
    return path;
  };
  return {
    counts,
    note(leaf, roots) {
      counts.asked++;
      const pair = `${leaf.name} ${roots.name}`;
      if (seen.has(pair)) return;
      seen.add(pair);
      const at = new Date(Math.floor((Date.now() - BEHIND_MS) / 1000) * 1000);
      const key = `${at.getTime()} ${roots.name} ${leaf.chain}`;
      const group = groups.get(key) ?? { chain: leaf.chain, roots, at, leaves: [] };
      group.leaves.push(leaf);
      groups.set(key, group);
    },
    async settle() {
      const due = [...groups.values()];
      groups = new Map();
      const faults = await inLanes(2, due, ({ chain, roots, at, leaves }) => {
        counts.runs++;
        counts.distinct += leaves.length;
        return opensslVerify(
          fileOf(roots.ca.join("")),
          chain === "" ? null : fileOf(chain),
          leaves.map(({ own }) => fileOf(own)),
          at,
        );
      });
      return faults.filter((fault) => fault !== null);
    },
    close: () => remove(folder),
  };
}

/**
 * Has openssl verify leaves that share a chain, by a clock that stands at `at`.
 * @returns its text of failures, or null.
 */
export function opensslVerify(
  roots: string,
  untrusted: string | null,
  leaves: readonly string[],
  at = new Date(),
): Promise<string | null> {
  const chain = untrusted === null ? [] : ["-untrusted", untrusted];
  const args = [
    "verify",
    "-x509_strict",
    "-no-CApath",
    "-no-CAstore",
    "-attime",
    String(Math.floor(at.getTime() / 1000)),
    "-CAfile",
    roots,
    ...chain,
    ...leaves,
  ];
  return new Promise((resolve) => {
    execFile("openssl", args, (error, stdout, stderr) => {
      const good = leaves.every((leaf) => stdout.includes(`${leaf}: OK`));
      resolve(
        error === null && good
          ? null
          : stderr || stdout || (error?.message ?? "openssl printed nothing"),
      );
    });
  });
}
