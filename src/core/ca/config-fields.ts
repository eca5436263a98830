/**
 * The fields of a provider's configuration: names that count in any spelling, fields that are given
 * twice, and secrets, which are stored and shown as HIDDEN.
 * @module
 */
import { ConfigError, type Violation } from "../errors.ts";
import { type CaConfig, type ConfigMap, HIDDEN } from "../state.ts";

/** The form of a name in which all its spellings are equal. */
export function foldedName(name: string): string {
  return name.replaceAll("_", "").toLowerCase();
}

/** A configuration without some fields, however they are spelled in it. */
export function withoutFields(config: ConfigMap, names: readonly string[]): ConfigMap {
  const folded = names.map(foldedName);
  return Object.fromEntries(
    Object.entries(config).filter(([key]) => !folded.includes(foldedName(key))),
  );
}

/** Some fields of a configuration, however they are spelled in it. */
export function onlyFields(config: ConfigMap, names: readonly string[]): ConfigMap {
  const folded = names.map(foldedName);
  return Object.fromEntries(
    Object.entries(config).filter(([key]) => folded.includes(foldedName(key))),
  );
}

/** Two spellings of one field in the same object, as paths from the top. */
type SameField = readonly [first: string, second: string];

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

/** The text of an error about a field that is given twice. */
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

/**
 * `AuthMethod.Params.*` names every value of a map inside a map; spelling counts for neither case
 * nor underscores.
 */
type Paths = readonly string[];

const isMap = (value: unknown): value is ConfigMap =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The rests of the paths that begin with a key; an empty one if the key itself is secret. */
function behind(key: string, paths: Paths): string[] {
  return paths.flatMap((path) => {
    const [first, ...rest] = path.split(".");
    return first === "*" || foldedName(first as string) === foldedName(key) ? [rest.join(".")] : [];
  });
}

/**
 * A configuration with every secret that is there replaced.
 * @param replace takes the path as it is spelled, and the value, which is neither empty nor null.
 */
export function mapSecrets(
  config: ConfigMap,
  paths: Paths,
  replace: (name: string, value: unknown) => unknown,
  prefix = "",
): ConfigMap {
  const replaced = (key: string, value: unknown): unknown => {
    const rest = behind(key, paths);
    if (rest.includes(""))
      return value === "" || value === null ? value : replace(`${prefix}${key}`, value);
    return rest.length > 0 && isMap(value)
      ? mapSecrets(value, rest, replace, `${prefix}${key}.`)
      : value;
  };
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => [key, replaced(key, value)]),
  );
}

/** A configuration as it is stored and shown: every secret that is there reads HIDDEN. */
export function redact(config: ConfigMap | null, paths: Paths): ConfigMap | null {
  return config === null ? null : mapSecrets(config, paths, () => HIDDEN);
}

/** The names of secrets that a configuration keeps. */
function keptIn(config: ConfigMap | null, paths: Paths): string[] {
  const names: string[] = [];
  mapSecrets(config ?? {}, paths, (name, value) => (value === HIDDEN ? names.push(name) : null));
  return names;
}

/** @throws {ConfigError} when a secret is to be kept that is not there. */
export function requireKept(
  request: { readonly provider: string; readonly config: ConfigMap | null },
  stored: Pick<CaConfig, "provider" | "config">,
  paths: Paths,
): void {
  const present = keptIn(stored.config, paths).map(foldedName);
  for (const name of keptIn(request.config, paths)) {
    if (request.provider !== stored.provider)
      throw new ConfigError(
        `error configuring provider: ${name} is "hidden", which keeps the stored value, but the provider changes: send the value itself`,
      );
    if (!present.includes(foldedName(name)))
      throw new ConfigError(
        `error configuring provider: ${name} is "hidden", which keeps the stored value, but none is stored: send the value itself`,
      );
  }
}

/**
 * Whether two JSON values are equal, keys in any order, types included (agent/consul/leader_connect_ca.go).
 */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [left, right] = [Object.entries(a), b as Record<string, unknown>];
  return (
    left.length === Object.keys(b).length &&
    left.every(([key, value]) => Object.hasOwn(right, key) && sameJson(value, right[key]))
  );
}
