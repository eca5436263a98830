/**
 * The secret fields of a configuration: what is stored and shown in their place, and when they are
 * kept.
 * @module
 */
import { ConfigError } from "../errors.ts";
import { type CaConfig, type ConfigMap, HIDDEN } from "../state.ts";
import { foldedName } from "./config-names.ts";

/**
 * `AuthMethod.Params.*` names every value of a map inside a map; spelling counts for neither case
 * nor underscores.
 */
type Paths = readonly string[];

const isMap = (value: unknown): value is ConfigMap =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The paths that lead on from a key, without it; an empty one where the key itself is secret. */
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
 * Whether two JSON values are equal, keys in any order, types included (consul-ca.md §4.5, step 5).
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
