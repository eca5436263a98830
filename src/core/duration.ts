/**
 * Durations in Go's text form, which Consul's configuration and query parameters use.
 * @module
 */
import { FormatError } from "./errors.ts";

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** The largest span Go's time.Duration holds: 2^63 - 1 nanoseconds. */
const MAX_MS = Number((2n ** 63n - 1n) / 1_000_000n);

/**
 * Parses a duration such as `72h`, `1h30m`, `1.5s`, `-1h` or `0`.
 * @returns milliseconds, with a fraction for what is shorter than one.
 * @throws {FormatError} where Go's time.ParseDuration fails, with its text.
 */
export function parseDuration(text: string): number {
  const invalid = () => new FormatError(`time: invalid duration ${JSON.stringify(text)}`);
  const match = /^([+-]?)(.*)$/s.exec(text);
  const body = match?.[2] ?? "";
  if (body === "0") return 0;
  if (body === "") throw invalid();
  let total = 0;
  let rest = body;
  while (rest !== "") {
    const part = /^(\d+\.?\d*|\.\d+)([^\d.]*)/.exec(rest);
    if (part === null) throw invalid();
    const unit = part[2] as string;
    if (unit === "") throw new FormatError(`time: missing unit in duration ${JSON.stringify(text)}`);
    const factor = UNIT_MS[unit];
    if (factor === undefined) throw new FormatError(`time: unknown unit ${JSON.stringify(unit)} in duration ${JSON.stringify(text)}`);
    total += Number(part[1]) * factor;
    rest = rest.slice(part[0].length);
  }
  if (total > MAX_MS) throw invalid();
  return match?.[1] === "-" ? -total : total;
}

/** Prints milliseconds in Go's form: `72h0m0s`, `1m30s`, `1.5s`, `250ms`, `0s`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  const sign = ms < 0 ? "-" : "";
  const value = Math.abs(ms);
  if (value < 1e-3) return `${sign}${round(value * 1e6)}ns`;
  if (value < 1) return `${sign}${round(value * 1e3)}µs`;
  if (value < 1000) return `${sign}${round(value)}ms`;
  const hours = Math.floor(value / 3_600_000);
  const minutes = Math.floor((value % 3_600_000) / 60_000);
  const seconds = round((value % 60_000) / 1000);
  if (hours > 0) return `${sign}${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${sign}${minutes}m${seconds}s` : `${sign}${seconds}s`;
}

function round(value: number): number {
  return Number(value.toFixed(9));
}
