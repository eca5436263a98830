/**
 * One guard of security, with the change that removes it.
 * @module
 */

export interface Mutant {
  /** The guard that the change removes, as a short phrase. */
  readonly name: string;
  /** From the root of the tree. */
  readonly file: string;
  /** Text that is in the file exactly once, in any layout. */
  readonly from: string;
  readonly to: string;
  /** Test files, every one of which must fail. */
  readonly tests: readonly string[];
}

/**
 * A guard, the text that is replaced, its replacement, and the test files that must fail, as in
 * `test/NAME.test.ts`.
 */
type Row = readonly [name: string, from: string, to: string, ...tests: string[]];

/** The guards of one file. */
export function guardsOf(file: string, ...rows: readonly Row[]): Mutant[] {
  return rows.map(([name, from, to, ...tests]) => ({
    name,
    file,
    from,
    to,
    tests: tests.map((test) => `test/${test}.test.ts`),
  }));
}
