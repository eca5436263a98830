/**
 * The syntax of configuration files: JSON without repeated keys, and HCL as the equivalent JSON.
 * @module
 */
import { type Body, type Item, isBody, placeOf, readHcl, type Value } from "../consul/hcl.ts";
import { ConfigError, FormatError } from "../core/errors.ts";

interface FileContent {
  readonly json: unknown;
  /** The line and column of each key by its path, `connect.ca_config.leaf_cert_ttl`; of HCL only. */
  readonly places: ReadonlyMap<string, string>;
}

/** Reads a configuration file. @throws {ConfigError} */
export function readSyntax(content: string, form: "json" | "hcl"): FileContent {
  if (form === "hcl") return readHclFile(content);
  try {
    return { json: readJsonFile(content), places: new Map() };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError("invalid JSON; a file in HCL has a name that ends in .hcl");
  }
}

/** Reads HCL's simple form. @throws {ConfigError} with the place, also if a key is repeated */
function readHclFile(content: string): FileContent {
  const places = new Map<string, string>();
  const join = (path: string, name: string) => (path === "" ? name : `${path}.${name}`);

  const plain = (value: Value, path: string): unknown => {
    if (isBody(value)) return object(value, path);
    // The list's own type is read-only.
    return Array.isArray(value)
      ? (value as readonly Value[]).map((item, i) => plain(item, `${path}.${i}`))
      : value;
  };

  /** `a "b" { … }` is a member `b` of `a`, which may have other members. */
  const object = ({ items }: Body, path: string): object => {
    const members = new Map<string, unknown>();
    const deeper = new Map<string, Item[]>();
    for (const item of items) {
      const [first, ...rest] = item.names;
      const name = first?.text ?? "";
      const whole = join(path, name);
      if (members.has(name) || (deeper.has(name) && rest.length === 0))
        throw new FormatError(
          `${placeOf(item)}: ${JSON.stringify(name)} is set twice, first at ${places.get(whole)}`,
        );
      if (!places.has(whole)) places.set(whole, placeOf(item));
      if (rest.length === 0) members.set(name, plain(item.value, whole));
      else deeper.set(name, [...(deeper.get(name) ?? []), { ...item, names: rest }]);
    }
    for (const [name, inner] of deeper)
      members.set(name, object({ items: inner }, join(path, name)));
    return Object.fromEntries(members);
  };

  try {
    return { json: object(readHcl(content, true), ""), places };
  } catch (error) {
    if (error instanceof FormatError) throw new ConfigError(`invalid HCL: ${error.message}`);
    throw error;
  }
}

/**
 * Reads JSON. A repeated key is refused, because parsers disagree on which one counts (RFC 8259
 * section 4).
 * @throws {ConfigError} if a key is repeated @throws {SyntaxError} if it is not JSON
 */
export function readJsonFile(text: string): unknown {
  const json: unknown = JSON.parse(text);
  const twice = keyGivenTwice(text);
  if (twice !== null)
    throw new ConfigError(`${JSON.stringify(twice)} is given twice in one object`);
  return json;
}

/** Strings and punctuation. No two alternatives begin alike: matching takes linear time. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:,]/g;

/** The first repeated key of an object, or null. @param text valid JSON. */
function keyGivenTwice(text: string): string | null {
  // The keys of each open object; null for each open list.
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
 * Replaces lists of one item by the item, at every level, as Consul's agent does
 * (HookWeakDecodeFromSlice in lib/decode/decode.go): HCL, and tools that write it as JSON, represent
 * a block as a list with one object.
 */
export function withoutListsOfOne(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 1 ? withoutListsOfOne(value[0]) : value;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, withoutListsOfOne(inner)]),
  );
}
