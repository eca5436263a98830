/**
 * Collects the faults of settings, so that an operator sees all of them at once.
 * @module
 */
import { ConfigError, type Violation } from "../core/errors.ts";

export class Faults {
  readonly violations: Violation[] = [];

  /** @param field the setting or key. @param place its place in a file, if that is known. */
  add(field: string, reason: string, place?: string): void {
    const where = place === undefined ? field : `${field} (${place})`;
    this.violations.push({ field, message: `${where}: ${reason}` });
  }

  has(field: string): boolean {
    return this.violations.some((violation) => violation.field === field);
  }

  get any(): boolean {
    return this.violations.length > 0;
  }

  get messages(): string[] {
    return this.violations.map(({ message }) => message);
  }

  /** One error with one line for each fault, below a line that names the failed action. */
  error(action: string): ConfigError {
    const lines = this.messages.map((message) => `  ${message}`);
    return new ConfigError(`${action}:\n${lines.join("\n")}`, this.violations);
  }
}
