/**
 * The rule by which expired records are deleted.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  deletionTime,
  type Looks,
  look,
  MAX_LOOKS,
  type Reading,
  reference,
} from "../../src/core/deletion-time.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 5, 1);
const SPAN = 9 * HOUR;

/** The looks of one process after the other, each with its own monotonic clock. */
class Looker {
  looks: Looks = [];
  #wall = START;
  #monotonic = 5;
  #before: Reading | null = null;
  readonly #hasMonotonic: boolean;

  constructor(hasMonotonic = true) {
    this.#hasMonotonic = hasMonotonic;
  }

  get wall(): number {
    return this.#wall;
  }

  pass(ms: number): this {
    this.#wall += ms;
    this.#monotonic += ms;
    return this;
  }

  jump(ms: number): this {
    this.#wall += ms;
    return this;
  }

  restart(): this {
    this.#before = null;
    this.#monotonic = Math.floor(this.#monotonic / 7);
    return this;
  }

  /** @returns whether a deadline is confirmed as past */
  look(...deadlines: number[]): boolean {
    const now = { wallMs: this.#wall, monotonicMs: this.#hasMonotonic ? this.#monotonic : null };
    this.looks = look(this.looks, now, this.#before, { deadlines, spanMs: SPAN });
    this.#before = reference(this.#before, now);
    return this.confirmed() >= Math.min(...deadlines);
  }

  confirmed(spanMs = SPAN): number {
    return deletionTime(this.looks, new Date(this.#wall)).confirmed(spanMs).getTime();
  }
}

describe("look()", () => {
  it("look() confirms an instant once it has been found past for a whole span, to the millisecond", () => {
    const due = START + DAY;
    const looker = new Looker();
    assert.equal(looker.pass(DAY - 1).look(due), false);
    assert.equal(looker.pass(1).look(due), false);
    assert.equal(looker.pass(SPAN - 1).look(due), false);
    assert.equal(looker.pass(1).look(due), true);
  });

  it("look() confirms nothing by a first look, however long an instant has been past", () => {
    const looker = new Looker();
    assert.equal(looker.look(START - 365 * DAY), false);
    assert.equal(looker.pass(SPAN).look(START - 365 * DAY), true);
  });

  it("look() forgets an instant that a clock found past while it was ahead", () => {
    const due = START + DAY;
    const looker = new Looker();
    looker.look(due);
    for (let i = 0; i < 10; i++)
      assert.equal(
        looker
          .pass(1000)
          .jump(i === 0 ? 7 * DAY : 0)
          .look(due),
        false,
      );
    assert.equal(
      looker
        .jump(-7 * DAY)
        .pass(1000)
        .look(due),
      false,
    );
    // Not due for a while, then due: the span begins with the look that finds it so.
    assert.equal(looker.pass(DAY).look(due), false);
    assert.equal(looker.pass(SPAN - 1).look(due), false);
    assert.equal(looker.pass(1).look(due), true);
  });

  it("look() counts no time that the monotonic clock does not confirm", () => {
    const due = START + DAY;
    const looker = new Looker();
    looker.look(due);
    assert.equal(looker.jump(7 * DAY).look(due), false);
    assert.equal(
      looker
        .pass(1000)
        .jump(14 * DAY)
        .look(due),
      false,
      "a second jump confirmed the first",
    );
    assert.equal(looker.pass(SPAN - 1001).look(due), false);
    assert.equal(
      looker.pass(1).look(due),
      true,
      "a clock that is ahead for good delays and does not prevent",
    );
  });

  it("look() counts a clock that stands still, or goes slower than the monotonic one, as it is", () => {
    const looker = new Looker();
    looker.look(START - 1);
    assert.equal(
      looker
        .pass(SPAN)
        .jump(-SPAN + 1)
        .look(START - 1),
      false,
    );
    assert.equal(looker.pass(SPAN - 1).look(START - 1), true);
  });

  it("look() takes a step back off the age, and goes on from there", () => {
    const due = START - 30 * DAY;
    const looker = new Looker();
    looker.look(due);
    assert.equal(looker.pass(SPAN - MINUTE).look(due), false);
    assert.equal(looker.jump(-HOUR).look(due), false);
    assert.equal(looker.pass(HOUR + MINUTE - 1).look(due), false);
    assert.equal(looker.pass(1).look(due), true);
    assert.equal(looker.jump(-DAY).look(due), false, "an age that was negative");
  });

  it("look() goes on over a restart, with the time that passed in between by the wall clock", () => {
    const looker = new Looker();
    assert.equal(looker.look(START), false);
    assert.equal(
      looker
        .pass(SPAN - 1)
        .restart()
        .look(START),
      false,
    );
    assert.equal(looker.pass(1).look(START), true);
  });

  it("look() counts within a process that was restarted only what its own monotonic clock confirms", () => {
    const looker = new Looker();
    looker.look(START);
    assert.equal(looker.pass(MINUTE).restart().look(START), false);
    assert.equal(
      looker
        .pass(1000)
        .jump(30 * DAY)
        .look(START),
      false,
    );
  });

  it("look() uses the wall clock if there is no monotonic one", () => {
    const looker = new Looker(false);
    assert.equal(looker.look(START), false);
    assert.equal(looker.jump(SPAN - 1).look(START), false);
    assert.equal(looker.jump(1).look(START), true);
    assert.equal(looker.jump(-1).look(START + DAY), false);
  });

  it("look() keeps few looks, whatever is due and however the clock moves, and confirms soon after the span", () => {
    const looker = new Looker();
    let late = 0;
    for (let i = 0; i < 20_000; i++) {
      looker.pass(MINUTE / 2).look(looker.wall - MINUTE, looker.wall);
      assert.ok(looker.looks.length <= MAX_LOOKS);
      if (i > 2 * (SPAN / MINUTE)) late = Math.max(late, looker.wall - looker.confirmed() - SPAN);
    }
    assert.ok(late <= SPAN / 16, `${late / MINUTE} min`);
    for (let i = 0; i < 1000; i++) looker.jump((i % 7) * HOUR - 3 * HOUR).look(START);
    assert.ok(looker.looks.length <= MAX_LOOKS);
    for (const [i, one] of looker.looks.entries())
      if (i > 0)
        assert.ok(
          one.since > (looker.looks[i - 1]?.since ?? 0) &&
            one.reached > (looker.looks[i - 1]?.reached ?? 0),
        );
  });

  it("look() does not take the error of reading the clocks for a jump, and does not accumulate it", () => {
    const looker = new Looker();
    looker.look(START);
    const before = looker.looks;
    // Each look late or early by up to half a second, for a whole span.
    for (let i = 1; i < 1000; i++) {
      const error = i % 2 === 0 ? -500 : 500;
      looker
        .pass(4000)
        .jump(error)
        .look(START - DAY);
      if (i < 100) assert.equal(looker.looks, before);
      looker.jump(-error);
    }
    assert.equal(looker.pass(SPAN - 999 * 4000).look(START - 1), true);
    for (let i = 0; i < 20; i++)
      assert.equal(
        looker
          .pass(10)
          .jump(999)
          .look(START + SPAN / 2),
        false,
      );
    assert.ok(looker.confirmed() < START + 20_000, "small jumps added up");
  });

  it("look() does not mutate its arguments, and returns the same looks if nothing is new", () => {
    const looker = new Looker();
    looker.look(START);
    const before = looker.looks;
    looker.pass(1000).look(START + DAY);
    assert.equal(looker.looks, before);
  });
});

describe("deletionTime()", () => {
  it("confirmed() never goes beyond the clock, and confirmsAt() returns when an instant will be confirmed", () => {
    const time = deletionTime([{ reached: START, since: START + 1000 }], new Date(START + 5000));
    assert.deepEqual(time.confirmsAt(new Date(START - 1), 10_000), new Date(START + 11_000));
    assert.equal(time.confirmsAt(new Date(START), 10_000), null);
    assert.deepEqual(time.confirmed(4000), new Date(START));
    assert.deepEqual(time.confirmed(4001), new Date(0));
    assert.deepEqual(time.confirmed(0), new Date(START + 5000));
  });
});
