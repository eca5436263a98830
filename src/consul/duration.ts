/**
 * Durations in Go's text form, which Consul's configuration and query parameters use.
 * @module
 */
import { FormatError } from "../core/errors.ts";

/** Nanoseconds. */
const UNITS = new Map<string, bigint>([
  ["ns", 1n],
  ["us", 1_000n],
  ["µs", 1_000n],
  ["μs", 1_000n],
  ["ms", 1_000_000n],
  ["s", 1_000_000_000n],
  ["m", 60_000_000_000n],
  ["h", 3_600_000_000_000n],
]);

/** Go's time.Duration is an int64 of nanoseconds. */
const MAX_NS = 2n ** 63n - 1n;

const DIGITS = /\d*/y;
const UNIT = /[^\d.]*/y;

/**
 * Parses a duration such as `72h`, `1h30m`, `1.5s`, `-1h` or `0`.
 * @returns milliseconds, with a fraction for what is shorter than one.
 * @throws {FormatError} if Go's time.ParseDuration fails, with its text.
 */
export function parseDuration(text: string): number {
  const quoted = JSON.stringify(text);
  const invalid = () => new FormatError(`time: invalid duration ${quoted}`);
  const sign = text.startsWith("-") || text.startsWith("+") ? text[0] : "";
  let at = sign === "" ? 0 : 1;
  if (at + 1 === text.length && text[at] === "0") return 0;
  if (at === text.length) throw invalid();
  /** Consumes the match at the current position, which may be empty. */
  const take = (pattern: RegExp): string => {
    pattern.lastIndex = at;
    const taken = pattern.exec(text)?.[0] ?? "";
    at += taken.length;
    return taken;
  };
  let total = 0n;
  while (at < text.length) {
    const integer = take(DIGITS);
    let fraction = "";
    if (text[at] === ".") {
      at++;
      fraction = take(DIGITS);
    }
    const name = take(UNIT);
    if (integer === "" && fraction === "") throw invalid();
    if (name === "") throw new FormatError(`time: missing unit in duration ${quoted}`);
    const unit = UNITS.get(name);
    if (unit === undefined)
      throw new FormatError(`time: unknown unit ${JSON.stringify(name)} in duration ${quoted}`);
    // Fractions of a nanosecond are cut off, as in Go; no unit has more than 13 digits.
    const digits = fraction.slice(0, 18);
    total +=
      BigInt(integer === "" ? 0 : integer.slice(0, 40)) * unit +
      (BigInt(`0${digits}`) * unit) / 10n ** BigInt(digits.length);
  }
  if (total > (sign === "-" ? MAX_NS + 1n : MAX_NS)) throw invalid();
  // Split, because nanoseconds of some months exceed the integers of a number.
  const ms = Number(total / 1_000_000n) + Number(total % 1_000_000n) / 1e6;
  return sign === "-" && ms > 0 ? -ms : ms;
}

/** Prints milliseconds in Go's form: `72h0m0s`, `1m30s`, `1.5s`, `250ms`, `0s`. */
export function formatDuration(ms: number): string {
  const sign = ms < 0 ? "-" : "";
  const whole = Math.trunc(Math.abs(ms));
  const ns = BigInt(whole) * 1_000_000n + BigInt(Math.round((Math.abs(ms) - whole) * 1e6));
  if (ns === 0n) return "0s";
  for (const name of ["ns", "µs", "ms"]) {
    const unit = UNITS.get(name) as bigint;
    if (ns < unit * 1000n) return `${sign}${decimal(ns, unit)}${name}`;
  }
  const second = UNITS.get("s") as bigint;
  const minutes = ns / (60n * second);
  const seconds = `${decimal(ns % (60n * second), second)}s`;
  if (minutes >= 60n) return `${sign}${minutes / 60n}h${minutes % 60n}m${seconds}`;
  return minutes > 0n ? `${sign}${minutes}m${seconds}` : `${sign}${seconds}`;
}

/** A number of nanoseconds in a unit, without trailing zeros. */
function decimal(ns: bigint, unit: bigint): string {
  const fraction = String(unit + (ns % unit))
    .slice(1)
    .replace(/0+$/, "");
  return fraction === "" ? String(ns / unit) : `${ns / unit}.${fraction}`;
}
