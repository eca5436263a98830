/**
 * Preloaded into a process whose clock has to be off: TEST_CLOCK_SHIFT_MS is added to the time of day.
 * Timers and the monotonic clock go on as they are.
 * @module
 */
const shiftMs = Number(process.env.TEST_CLOCK_SHIFT_MS);
const RealDate = Date;

class ShiftedDate extends RealDate {
  constructor(...values: [] | [value: number | string | Date]) {
    if (values.length === 0) super(RealDate.now() + shiftMs);
    else super(...values);
  }
  static override now(): number {
    return RealDate.now() + shiftMs;
  }
}

globalThis.Date = ShiftedDate as DateConstructor;
