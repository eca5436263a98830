/**
 * Statistics of measurements.
 * @module
 */

/** The value below which a share of the values is. */
export function quantile(values: readonly number[], share: number): number {
  return (
    values.toSorted((a, b) => a - b)[
      Math.min(values.length - 1, Math.floor(values.length * share))
    ] ?? Number.NaN
  );
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);
