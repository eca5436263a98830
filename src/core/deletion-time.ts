/**
 * When something may be deleted because its time is over. A clock that was wrong for a moment must
 * not delete anything, so that the present time does not decide by itself: an instant counts as
 * confirmed once every look at the clock has found it past for a whole span, and only what ended
 * before a confirmed instant is deleted. What decides at once, such as the end of a token's rights,
 * goes by the clock and not by this.
 *
 * The rule, precisely:
 * - A look is one reading of the store's clock. The first look that finds an instant past is
 *   remembered, over a restart too.
 * - A look that finds the instant still to come clears it: the span begins again.
 * - The age of a first look is the time since then by the store's clock. Between two looks of one
 *   process no more of it
 *   counts than has passed by the process's monotonic clock, but for a second that reading them may
 *   be wrong by. Monotonic clocks of two processes cannot be compared: between
 *   the last look of one process and the first look of another the store's clock counts as it is.
 * - A clock that goes back takes its step off the age, and never makes an age negative.
 *
 * A clock that is ahead for good therefore delays a deletion by one span, and does not prevent it.
 * @module
 */

/**
 * Since `since` every look has found the clock at `reached` or later. Both in milliseconds since
 * 1970.
 */
export interface Look {
  readonly reached: number;
  /** By the store's clock, moved on by what the monotonic clock did not confirm. */
  readonly since: number;
}

/**
 * What is remembered of all looks: in order, `reached` and `since` both grow. At most MAX_LOOKS.
 */
export type Looks = readonly Look[];

/** One reading of the clocks. */
export interface Reading {
  /** The store's clock, in milliseconds since 1970. */
  readonly wallMs: number;
  /**
   * This process's monotonic clock, in milliseconds since any instant; null if the runtime has
   * none.
   */
  readonly monotonicMs: number | null;
}

export interface LookOptions {
  /**
   * Instants after which something is to be deleted, in milliseconds since 1970. The first look
   * that finds one past is kept.
   */
  readonly deadlines: readonly number[];
  /** The longest span that anything needs, in milliseconds. */
  readonly spanMs: number;
}

/**
 * By how much the two clocks may come apart before it counts, in milliseconds: what reading them
 * one after the other, over a network, makes of two clocks that agree. Without it every look would
 * change what is remembered.
 */
const TOLERANCE_MS = 1000;
/** Looks kept at most: twice what STEPS make in one span, so that there is room for deadlines. */
export const MAX_LOOKS = 64;
/**
 * Without a deadline a look is kept this often in a span: what has no deadline here is deleted at
 * most 1/32 of a span late.
 */
const STEPS = 32;

/**
 * Adds one look.
 * @param before what the same process read before (`reference`), or null.
 * @returns what is to be remembered; the same array if nothing changed.
 */
export function look(
  looks: Looks,
  now: Reading,
  before: Reading | null,
  { deadlines, spanMs }: LookOptions,
): Looks {
  const jumped = unconfirmedMs(before, now);
  const next: Look[] = [];
  const add = (seen: Look) => {
    const last = next.at(-1);
    // Of two looks with the same `reached` the older one counts; of two of one age the one that
    // reached further.
    if (last?.reached === seen.reached) return;
    if (last?.since === seen.since) next.pop();
    next.push(seen);
  };
  for (const { reached, since } of looks)
    add({ reached: Math.min(reached, now.wallMs), since: Math.min(since + jumped, now.wallMs) });
  const { reached = Number.NEGATIVE_INFINITY } = next.at(-1) ?? {};
  const isNews = deadlines.some((deadline) => deadline >= reached && deadline <= now.wallMs);
  if (now.wallMs > reached && (isNews || now.wallMs - reached >= spanMs / STEPS))
    add({ reached: now.wallMs, since: now.wallMs });
  const kept = thinned(next.slice(Math.max(0, newest(next, now.wallMs, spanMs))));
  const isSame =
    kept.length === looks.length &&
    kept.every((one, i) => one.reached === looks[i]?.reached && one.since === looks[i]?.since);
  return isSame ? looks : kept;
}

/**
 * What the next look of this process is compared with: the reading before for as long as both
 * clocks agree, so that errors of reading do not add up, and this one once they have come apart.
 */
export function reference(before: Reading | null, now: Reading): Reading {
  return before === null || Math.abs(apartMs(before, now)) > TOLERANCE_MS ? now : before;
}

/**
 * How much further the wall clock went between two readings of one process than the monotonic
 * clock, in milliseconds.
 */
function unconfirmedMs(before: Reading | null, now: Reading): number {
  const apart = before === null ? 0 : apartMs(before, now);
  return apart > TOLERANCE_MS ? apart : 0;
}

function apartMs(before: Reading, now: Reading): number {
  if (before.monotonicMs === null || now.monotonicMs === null) return 0;
  return now.wallMs - before.wallMs - Math.max(0, now.monotonicMs - before.monotonicMs);
}

/** The place of the newest look that is a whole span old; -1 if none is. */
function newest(looks: Looks, nowMs: number, spanMs: number): number {
  return looks.findLastIndex(({ since }) => nowMs - since >= spanMs);
}

/**
 * At most MAX_LOOKS: without those that lie closest to the one before, which can only delay a
 * deletion.
 */
function thinned(looks: readonly Look[]): readonly Look[] {
  const left = [...looks];
  while (left.length > MAX_LOOKS) {
    const gap = (i: number) => (left[i]?.since ?? 0) - (left[i - 1]?.since ?? 0);
    let closest = 1;
    // The newest look stays: it may be the first one that found something due.
    for (let i = 2; i < left.length - 1; i++) if (gap(i) < gap(closest)) closest = i;
    left.splice(closest, 1);
  }
  return left;
}

/** What may be deleted at one look. */
export interface DeletionTime {
  /** The store's clock at the look. */
  readonly now: Date;
  /**
   * The latest instant that every look of the last `spanMs` milliseconds found past; 1970 if there
   * is none.
   */
  confirmed(spanMs: number): Date;
  /**
   * When an instant that is past counts as confirmed, if nothing unusual happens; null if no look
   * has found it past yet.
   */
  confirmsAt(instant: Date, spanMs: number): Date | null;
  /** What may be deleted at a later instant, if looks go on as usual until then. */
  at(later: Date): DeletionTime;
}

/** What looks make of an instant. @param now the store's clock at the last of them. */
export function deletionTime(looks: Looks, now: Date): DeletionTime {
  return {
    now,
    confirmed(spanMs) {
      if (spanMs <= 0) return now;
      return new Date(looks[newest(looks, now.getTime(), spanMs)]?.reached ?? 0);
    },
    confirmsAt(instant, spanMs) {
      const first = looks.find(({ reached }) => reached > instant.getTime());
      return first === undefined ? null : new Date(first.since + spanMs);
    },
    at: (later) => foreseen(looks, now, later),
  };
}

/**
 * The time at `later` with the looks that there were until `now`, and one at every instant after
 * that.
 */
function foreseen(looks: Looks, now: Date, later: Date): DeletionTime {
  const known = deletionTime(looks, later);
  return {
    ...known,
    confirmed: (spanMs) =>
      later.getTime() - spanMs > now.getTime()
        ? new Date(later.getTime() - spanMs)
        : known.confirmed(spanMs),
    at: (next) => foreseen(looks, now, next),
  };
}

/** The time of a clock that is trusted as it is: everything that is past may be deleted at once. */
export function trusted(now: Date): DeletionTime {
  return { now, confirmed: () => now, confirmsAt: (instant) => instant, at: trusted };
}
