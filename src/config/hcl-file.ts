/**
 * A configuration file in HCL, as the JSON that says the same.
 * @module
 */

import { type Body, type Item, isBody, placeOf, readHcl, type Value } from "../consul/hcl.ts";
import { ConfigError, FormatError } from "../core/errors.ts";

export interface HclFile {
  readonly json: unknown;
  /** Where each thing was said, by its path: `connect.ca_config.leaf_cert_ttl`. */
  readonly places: ReadonlyMap<string, string>;
}

/** Reads HCL's simple form; what is said twice is refused. @throws {ConfigError} with the place */
export function readHclFile(content: string): HclFile {
  const places = new Map<string, string>();
  const join = (path: string, name: string) => (path === "" ? name : `${path}.${name}`);

  const plain = (value: Value, path: string): unknown => {
    if (isBody(value)) return object(value, path);
    // The list's own type is read-only.
    return Array.isArray(value)
      ? (value as readonly Value[]).map((item, i) => plain(item, `${path}.${i}`))
      : value;
  };

  /** `a "b" { … }` is a member `b` of `a`, of which there may be others. */
  const object = ({ items }: Body, path: string): object => {
    const members = new Map<string, unknown>();
    const deeper = new Map<string, Item[]>();
    for (const item of items) {
      const [first, ...rest] = item.names;
      const name = first?.text ?? "";
      const whole = join(path, name);
      if (members.has(name) || (deeper.has(name) && rest.length === 0))
        throw new FormatError(
          `${placeOf(item)}: ${JSON.stringify(name)} was set already, at ${places.get(whole)}`,
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
    if (error instanceof FormatError)
      throw new ConfigError(`the file is not HCL: ${error.message}`);
    throw error;
  }
}
