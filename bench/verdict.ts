/**
 * Figures next to their targets.
 * @module
 */
import { loadavg } from "node:os";

export interface Figure {
  readonly value: number;
  /** The most that is good, or null if there is no target. */
  readonly most: number | null;
  readonly unit: string;
}

/** Prints figures with OK or MISSED, and the load of the machine. */
export function printFigures(title: string, figures: Readonly<Record<string, Figure>>): void {
  console.log(`\n${title}; load average ${loadavg()[0]?.toFixed(2)}`);
  const shown = (value: number) => Number(value.toPrecision(4));
  console.table(
    Object.fromEntries(
      Object.entries(figures).map(([name, { value, most, unit }]) => [
        name,
        {
          figure: `${shown(value)} ${unit}`.trim(),
          target: most === null ? "" : `<= ${shown(most)} ${unit}`.trim(),
          "": most === null ? "" : value <= most ? "OK" : "MISSED",
        },
      ]),
    ),
  );
}
