/**
 * Reads Consul's policy language, HCL or JSON, into a list of rules. Everything that Consul accepts
 * is checked; rules that grant nothing in a CA are then left out. Unknown names, which Consul skips,
 * are refused, so that a policy with a typo does not seem to be in force.
 * @module
 */

import {
  type Body,
  type Item,
  isBody,
  type Place,
  placeOf,
  readHcl,
  type Value,
} from "../consul/hcl.ts";
import { FormatError, RequestError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";

/**
 * What a rule does (Consul's policy dispositions). Of several rules for the same name the first of
 * this list wins (Consul's `takesPrecedenceOver`).
 */
export const DISPOSITIONS = ["deny", "write", "read"] as const;
export type Disposition = (typeof DISPOSITIONS)[number];

/** Resources whose rules have names, and those whose rules have none. */
export const NAMED = ["service", "node", "agent"] as const;
export const WHOLE = ["acl", "operator", "mesh", "intermediate"] as const;

export interface Rule {
  readonly resource: (typeof NAMED)[number] | (typeof WHOLE)[number];
  /** `whole` for resources without names. */
  readonly match: "exact" | "prefix" | "whole";
  /** Empty for `whole`. */
  readonly name: string;
  readonly disposition: Disposition;
}

/** Consul's other resources: valid in its policies, and without meaning for a CA. */
const OTHER_NAMED = ["event", "identity", "key", "query", "session"] as const;
const OTHER_WHOLE = ["keyring", "peering"] as const;

const NAMED_KINDS = new Map(
  [...NAMED, ...OTHER_NAMED].flatMap((kind) =>
    [kind, `${kind}_prefix`].map((name) => [name, kind] as const),
  ),
);
const WHOLE_KINDS: ReadonlySet<string> = new Set([...WHOLE, ...OTHER_WHOLE]);
const KINDS = [...NAMED_KINDS.keys(), ...WHOLE_KINDS];
/** Of Consul Enterprise: they would narrow or widen a rule. */
const ENTERPRISE = ["namespace", "namespace_prefix", "partition", "partition_prefix", "sentinel"];

/** Faults in one error. */
const MAX_FAULTS = 10;

/**
 * Reads a policy's rules.
 * @throws {RequestError} `request_malformed` with all faults, each at its place
 */
export function readRules(text: string): Rule[] {
  const faults: string[] = [];
  const rules: Rule[] = [];
  try {
    for (const item of readHcl(text).items) readItem(item, rules, faults);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    faults.push(error.message);
  }
  // Consul's text (agent/consul/acl_endpoint.go); what follows is ours.
  if (faults.length > 0)
    throw new RequestError(
      "request_malformed",
      `Failed to parse ACL rules: ${faults.slice(0, MAX_FAULTS).join("; ")}`,
    );
  return rules;
}

function readItem(item: Item, rules: Rule[], faults: string[]): void {
  const kind = item.names[0]?.text ?? "";
  const add: AddFault = (place, message) => {
    faults.push(`${placeOf(place)}: ${message}`);
  };
  const named = NAMED_KINDS.get(kind);
  if (named !== undefined) {
    for (const { name, body, place } of namedBodies(item, kind, add)) {
      const disposition = readBody(body, kind, place, add);
      const match = kind === named ? "exact" : "prefix";
      if (disposition !== null && isIn(NAMED, named))
        rules.push({ resource: named, match, name, disposition });
    }
  } else if (!WHOLE_KINDS.has(kind)) add(item, unknownName(kind, KINDS, "resource"));
  else if (item.names.length > 1) add(item, `${kind} has no names; write ${kind} = "read"`);
  else if (item.value !== "") {
    const disposition = readDisposition(item.value, kind, item, add);
    if (disposition !== null && isIn(WHOLE, kind))
      rules.push({ resource: kind, match: "whole", name: "", disposition });
  }
}

interface NamedBody {
  readonly name: string;
  readonly body: Body;
  readonly place: Place;
}

type AddFault = (place: Place, message: string) => void;

/**
 * Each `"name" { … }` of a resource: as blocks, or as an object or a list of objects with names for
 * keys.
 */
function namedBodies(item: Item, kind: string, add: AddFault): NamedBody[] {
  const names = item.names.slice(1);
  if (names.length > 1) add(item, `${kind} has one name, found ${names.length}`);
  else if (names.length === 1) {
    if (isBody(item.value)) return [{ name: names[0]?.text ?? "", body: item.value, place: item }];
    add(item, `${kind} ${JSON.stringify(names[0]?.text)} needs a block with a policy`);
  } else {
    const bodies: NamedBody[] = [];
    for (const part of partsOf(item.value)) {
      const entries = isBody(part) ? part.items : [];
      if (!isBody(part)) add(item, `${kind} needs a name: ${kind} "name" { policy = "read" }`);
      for (const entry of entries)
        for (const body of partsOf(entry.value)) {
          if (entry.names.length === 1 && isBody(body))
            bodies.push({ name: entry.names[0]?.text ?? "", body, place: entry });
          else add(entry, `${kind} needs a name: ${kind} "name" { policy = "read" }`);
        }
    }
    return bodies;
  }
  return [];
}

/** The elements of a list, or the value itself: HCL takes a list of one for its element. */
function partsOf(value: Value): readonly Value[] {
  return Array.isArray(value) ? (value as readonly Value[]) : [value];
}

/** The disposition in `{ policy = "…" }`; null if it is missing or invalid. */
function readBody(body: Body, kind: string, place: Place, add: AddFault): Disposition | null {
  const resource = NAMED_KINDS.get(kind);
  const fields =
    resource === "service" || resource === "identity" ? ["policy", "intentions"] : ["policy"];
  let disposition: Disposition | null = null;
  let found = false;
  for (const item of body.items) {
    const field = item.names[0]?.text ?? "";
    if (item.names.length > 1 || !fields.includes(field))
      add(item, unknownName(field, fields, "field"));
    else if (field === "policy") {
      found = true;
      disposition = readDisposition(item.value, kind, item, add);
    } else if (item.value !== "") readDisposition(item.value, `${kind} intentions`, item, add);
  }
  if (!found) add(place, `${kind} has no policy`);
  return disposition;
}

function readDisposition(
  value: Value,
  kind: string,
  place: Place,
  add: AddFault,
): Disposition | null {
  // Consul has `list` only for keys, between read and write.
  if (value === "list" && (kind === "key" || kind === "key_prefix")) return "read";
  if (typeof value === "string" && isIn(DISPOSITIONS, value)) return value;
  const near = typeof value === "string" ? nearest(value, DISPOSITIONS) : null;
  const hint = near === null ? "expected deny, read or write" : `did you mean ${near}?`;
  add(
    place,
    `Invalid ${kind} policy: ${typeof value === "string" ? JSON.stringify(value.slice(0, 40)) : "not a string"}; ${hint}`,
  );
  return null;
}

function unknownName(name: string, known: readonly string[], what: string): string {
  const quoted = JSON.stringify(name.slice(0, 40));
  if (ENTERPRISE.includes(name)) return `${quoted} is a Consul Enterprise feature`;
  const near = nearest(name, known);
  return `unknown ${what} ${quoted}${near === null ? `; known are ${known.join(", ")}` : `; did you mean ${near}?`}`;
}

function isIn<T extends string>(names: readonly T[], name: string): name is T {
  return (names as readonly string[]).includes(name);
}
