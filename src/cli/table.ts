/**
 * Tables for a terminal: columns under a header, or, where they do not fit, one block for each row.
 * @module
 */
import type { Terminal } from "./terminal.ts";

/** The text of a table with its line breaks; those in a cell are blanks. */
export function table(
  header: readonly string[],
  cells: readonly (readonly string[])[],
  terminal: Pick<Terminal, "width" | "style">,
): string {
  const rows = cells.map((row) => row.map(withoutBreaks));
  const widths = header.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => (row[i] ?? "").length)),
  );
  const total = widths.reduce((sum, width) => sum + width + GAP, -GAP);
  if (total > terminal.width) return blocks(header, rows, terminal);
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i === cells.length - 1 ? cell : cell.padEnd((widths[i] ?? 0) + GAP)))
      .join("")
      .trimEnd();
  return [terminal.style("bold", line(header)), ...rows.map(line)]
    .map((text) => `${text}\n`)
    .join("");
}

/** A text in one line, as a server's may not be. */
export const withoutBreaks = (text: string): string => text.replaceAll(/\s+/gu, " ").trim();

/** Columns between two cells. */
const GAP = 2;

/** Each row as lines of title and value. */
function blocks(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  terminal: Pick<Terminal, "style">,
): string {
  const width = Math.max(...header.map((title) => title.length));
  return rows
    .map((row) =>
      row
        .map((cell, i) => {
          const title = `${header[i] ?? ""}:`.padEnd(width + GAP);
          return `${terminal.style("bold", title)}${cell}\n`;
        })
        .join(""),
    )
    .join("\n");
}

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
] as const;

/** A span in its two largest units: `89d 4h`. @param ms not negative */
export function spanText(ms: number): string {
  const first = UNITS.findIndex(([, size]) => ms >= size);
  if (first < 0) return "0s";
  let rest = ms;
  const parts: string[] = [];
  for (const [unit, size] of UNITS.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.join(" ");
}

/** How long something is still valid, or for how long it is expired. */
export function lifeText(notAfter: Date, now: Date): string {
  const ms = notAfter.getTime() - now.getTime();
  return ms > 0 ? `${spanText(ms)} left` : `expired ${spanText(-ms)} ago`;
}
