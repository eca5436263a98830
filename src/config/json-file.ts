/**
 * JSON of files that an operator writes: a key that is given twice in an object is refused, since
 * which of the two counts is what readers of JSON disagree on (RFC 8259 §4).
 * @module
 */
import { ConfigError } from "../core/errors.ts";

/** @throws {ConfigError} if a key is given twice @throws {SyntaxError} if it is not JSON */
export function readJsonFile(text: string): unknown {
  const json: unknown = JSON.parse(text);
  const twice = keyGivenTwice(text);
  if (twice !== null)
    throw new ConfigError(`${JSON.stringify(twice)} is given twice in one object`);
  return json;
}

/**
 * Strings and the signs between them. No two alternatives begin alike, so that it takes time in
 * proportion.
 */
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:,]/g;

/** The first key that an object of a JSON text has twice, or null. @param text valid JSON */
function keyGivenTwice(text: string): string | null {
  // Of each open object its keys; of each open list null.
  const open: (Set<string> | null)[] = [];
  let isKey = false;
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(null);
    else if (token === "}" || token === "]") open.pop();
    else if (isKey && token.startsWith('"')) {
      const keys = open.at(-1);
      const key = JSON.parse(token) as string;
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
    isKey = token === "{" || (token === "," && open.at(-1) !== null);
  }
  return null;
}

/**
 * Takes lists of one item for that item, at every level, as Consul's agent does with its files
 * (HookWeakDecodeFromSlice in lib/decode/decode.go): HCL and tools that write it as JSON store a
 * block as a list with one object. A list of several stays.
 */
export function withoutListsOfOne(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 1 ? withoutListsOfOne(value[0]) : value;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, withoutListsOfOne(inner)]),
  );
}
