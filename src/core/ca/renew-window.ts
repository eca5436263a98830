/**
 * Over how long the holders of leaves should spread the renewals that a new root causes, so that
 * this replica can sign them in that time with three quarters of its rate to spare.
 * @module
 */
import type { CommonConfig } from "../ports/provider.ts";
import { advance } from "./limiter.ts";
import type { SignedHistory, SignedMemory } from "./replica-memory.ts";

/** The share of the rate at which leaves can be signed that renewals after a rotation may take. */
const SHARE = 1 / 4;
const LEAST_MS = 30_000;
/** The window is at most this share of LeafCertTTL, in which no leaf ends. */
const MOST = 1 / 6;

/**
 * The bounds of the window if the leaves before are refused, in milliseconds: then each second counts
 * more than a request that has to be repeated.
 */
const URGENT_MS = { least: 1000, most: 300_000 };
/** Leaves a second that any server signs: Consul's default of CSRMaxPerSecond. */
const URGENT_PER_MS = 0.05;

/**
 * The window, in milliseconds; whole seconds. The leaves that were signed in the last LeafCertTTL,
 * divided by a quarter of the rate: CSRMaxPerSecond, else the most that was signed in any minute.
 * @param now as `elapsedMs` gives it. @param isUrgent whether the leaves before are refused.
 */
export function renewWindowMs(
  { histories, most }: SignedMemory,
  { leafTtlMs, csrMaxPerSecond }: Pick<CommonConfig, "leafTtlMs" | "csrMaxPerSecond">,
  now: number,
  isUrgent = false,
): number {
  const [minutes] = histories as readonly [SignedHistory];
  const perMs = csrMaxPerSecond === null ? most / minutes.bucketMs : csrMaxPerSecond / 1000;
  const signed = signedWithin(histories, leafTtlMs, now);
  if (isUrgent) {
    const rate = csrMaxPerSecond === null ? Math.max(perMs, URGENT_PER_MS) : perMs;
    const { least, most: longest } = URGENT_MS;
    return 1000 * Math.ceil(Math.min(longest, Math.max(least, signed / rate)) / 1000);
  }
  const neededMs = signed === 0 ? 0 : signed / (perMs * SHARE);
  const longest = Math.floor((leafTtlMs * MOST) / 1000);
  return 1000 * Math.min(longest, Math.ceil(Math.max(LEAST_MS, neededMs) / 1000));
}

/** How many leaves were signed in the last `spanMs`; the oldest bucket counts in proportion. */
function signedWithin(histories: readonly SignedHistory[], spanMs: number, now: number): number {
  const history =
    histories.find(({ bucketMs, counts }) => bucketMs * (counts.length - 1) >= spanMs) ??
    (histories.at(-1) as SignedHistory);
  advance(history, now);
  const { bucketMs, counts, at, since } = history;
  let signed = counts[at] as number;
  let leftMs = spanMs - (now - since);
  for (let age = 1; age < counts.length && leftMs > 0; age++) {
    const count = counts[(at - age + counts.length) % counts.length] as number;
    signed += count * Math.min(1, leftMs / bucketMs);
    leftMs -= bucketMs;
  }
  return signed;
}
