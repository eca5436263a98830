/**
 * The flags of a command as they are declared, and as a call has them.
 * @module
 */

export type Environment = Readonly<Record<string, string | undefined>>;

/** A flag of a command. Switches have the value `null`. */
export interface Flag {
  /** Without dashes. */
  readonly name: string;
  /** What its value is, in the help; null of a switch. */
  readonly value: string | null;
  readonly help: string;
  /** It may be repeated. Of another flag the last value counts, as in Go. */
  readonly many?: true;
  /** Environment variables that give the value without the flag, the first one first. */
  readonly variables?: readonly string[];
  /** For the completion of shells: the values that exist. */
  readonly choices?: readonly string[];
  /** For the completion of shells: the value is the path of a file. */
  readonly file?: true;
  /** For processes that meshca starts: not in the help. */
  readonly hidden?: true;
}

/** The flags of one call. Asking for one that the command does not declare is a mistake in the code. */
export class Flags {
  readonly #declared: ReadonlyMap<string, Flag>;
  readonly #given: ReadonlyMap<string, readonly string[]>;

  constructor(declared: readonly Flag[], given: ReadonlyMap<string, readonly string[]>) {
    this.#declared = new Map(declared.map((flag) => [flag.name, flag]));
    this.#given = given;
  }

  /** Whether the command declares a flag. */
  has(name: string): boolean {
    return this.#declared.has(name);
  }

  /** The value of a flag, the last one if it is repeated; null without one. */
  text(name: string): string | null {
    return this.all(name).at(-1) ?? null;
  }

  /** The values of a flag in their order. */
  all(name: string): readonly string[] {
    if (!this.#declared.has(name)) throw new TypeError(`The flag ${name} is not declared`);
    return this.#given.get(name) ?? [];
  }

  /** Whether a switch is on. */
  on(name: string): boolean {
    return this.text(name) === "true";
  }
}
