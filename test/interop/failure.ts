/**
 * Throws in an expression.
 * @module
 */

/** @throws {Error} always */
export function fail(reason: string): never {
  throw new Error(reason);
}
