/**
 * The faults of a provider's configuration, which is refused once with all of them.
 * @module
 */
import { ConfigError, type Violation } from "../src/core/errors.ts";

/** Collects every fault of a configuration. */
export class Faults {
  readonly #violations: Violation[] = [];

  refuse(broken: boolean, field: string, message: string): void {
    if (broken) this.#violations.push({ field, message });
  }

  /** @throws {ConfigError} with every fault */
  throwIfAny(): void {
    const text = this.#violations.map(({ message }) => message).join("; ");
    if (text !== "") throw new ConfigError(text, this.#violations);
  }
}
