/**
 * Names of configuration fields, whose spelling counts for neither case nor underscores, as in
 * Consul.
 * @module
 */
import { ConfigError, type Violation } from "../errors.ts";

/** The form of a name in which all its spellings are equal. */
export function foldedName(name: string): string {
  return name.replaceAll("_", "").toLowerCase();
}

/** Two spellings of one field in the same object, as paths from the top. */
export type SameField = readonly [first: string, second: string];

/**
 * Finds fields that a configuration names twice, at every level, inside lists too.
 * @param value any decoded JSON. @param path of `value`, dots between names.
 */
export function sameFields(value: unknown, path = ""): SameField[] {
  if (typeof value !== "object" || value === null) return [];
  const found: SameField[] = [];
  const seen = new Map<string, string>();
  for (const [key, inner] of Object.entries(value)) {
    const here = path === "" ? key : `${path}.${key}`;
    // The keys of a list are numbers, which are all different.
    const name = foldedName(key);
    const before = seen.get(name);
    if (before === undefined) seen.set(name, here);
    else found.push([before, here]);
    found.push(...sameFields(inner, here));
  }
  return found;
}

/** What an error says of a field that is named twice. */
export function sameFieldText([first, second]: SameField): string {
  return `${JSON.stringify(first)} and ${JSON.stringify(second)} are the same field: give one of them`;
}

/**
 * Refuses a configuration in which two keys decode to one field: which of them counts would depend
 * on the reader.
 * @throws {ConfigError} naming both
 */
export function requireDistinctFields(config: unknown): void {
  const same = sameFields(config);
  if (same.length === 0) return;
  const violations = same.map(
    (pair): Violation => ({
      field: pair[1],
      message: sameFieldText(pair),
    }),
  );
  throw new ConfigError(violations.map(({ message }) => message).join("; "), violations);
}
