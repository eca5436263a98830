/**
 * Consul's policy language: from its text, HCL or JSON, to a list of rules. All that Consul takes
 * is checked; what grants nothing in a CA is then left out. Other than Consul, which skips them,
 * names that are not known are refused: a policy with a slip of the pen must not look like one that
 * is in force.
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
 * What a rule grants: the first that is named in several rules for one thing wins (Consul's
 * `takesPrecedenceOver`).
 */
export const LEVELS = ["deny", "write", "read"] as const;
export type Level = (typeof LEVELS)[number];

/** What rules of names, and of nothing but themselves, are about here. */
export const NAMED = ["service", "node", "agent"] as const;
export const WHOLE = ["acl", "operator", "mesh"] as const;
export type Named = (typeof NAMED)[number];
export type Whole = (typeof WHOLE)[number];

export interface Rule {
  readonly resource: Named | Whole;
  /** `whole` for resources without names. */
  readonly match: "exact" | "prefix" | "whole";
  /** Empty for `whole`. */
  readonly name: string;
  readonly level: Level;
}

/** Consul's other resources: valid in its policies, without a meaning for a CA. */
const OTHER_NAMED = ["event", "identity", "key", "query", "session"] as const;
const OTHER_WHOLE = ["keyring", "peering"] as const;

const NAMED_KINDS = new Map(
  [...NAMED, ...OTHER_NAMED].flatMap((kind) =>
    [kind, `${kind}_prefix`].map((name) => [name, kind] as const),
  ),
);
const WHOLE_KINDS: ReadonlySet<string> = new Set([...WHOLE, ...OTHER_WHOLE]);
const KINDS = [...NAMED_KINDS.keys(), ...WHOLE_KINDS];
/** Consul Enterprise's, which would narrow or widen what a rule says. */
const ENTERPRISE = ["namespace", "namespace_prefix", "partition", "partition_prefix", "sentinel"];

/** More would only tell the same again. */
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
      const level = readBody(body, kind, place, add);
      if (level !== null && isIn(NAMED, named))
        rules.push({ resource: named, match: kind === named ? "exact" : "prefix", name, level });
    }
  } else if (!WHOLE_KINDS.has(kind)) add(item, unknownName(kind, KINDS, "resource"));
  else if (item.names.length > 1) add(item, `${kind} has no names; write ${kind} = "read"`);
  else if (item.value !== "") {
    const level = readLevel(item.value, kind, item, add);
    if (level !== null && isIn(WHOLE, kind))
      rules.push({ resource: kind, match: "whole", name: "", level });
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

/** What a list holds, or the value itself: HCL takes a list of one for its element. */
function partsOf(value: Value): readonly Value[] {
  return Array.isArray(value) ? (value as readonly Value[]) : [value];
}

/** The level in a `{ policy = "…" }`; null where there is none to go by. */
function readBody(body: Body, kind: string, place: Place, add: AddFault): Level | null {
  const resource = NAMED_KINDS.get(kind);
  const fields =
    resource === "service" || resource === "identity" ? ["policy", "intentions"] : ["policy"];
  let level: Level | null = null;
  let found = false;
  for (const item of body.items) {
    const field = item.names[0]?.text ?? "";
    if (item.names.length > 1 || !fields.includes(field))
      add(item, unknownName(field, fields, "field"));
    else if (field === "policy") {
      found = true;
      level = readLevel(item.value, kind, item, add);
    } else if (item.value !== "") readLevel(item.value, `${kind} intentions`, item, add);
  }
  if (!found) add(place, `${kind} has no policy`);
  return level;
}

function readLevel(value: Value, kind: string, place: Place, add: AddFault): Level | null {
  // Consul knows `list` for keys alone, where it lies below write.
  if (value === "list" && (kind === "key" || kind === "key_prefix")) return "read";
  if (typeof value === "string" && isIn(LEVELS, value)) return value;
  const near = typeof value === "string" ? nearest(value, LEVELS) : null;
  const hint = near === null ? "expected deny, read or write" : `did you mean ${near}?`;
  add(
    place,
    `Invalid ${kind} policy: ${typeof value === "string" ? JSON.stringify(value.slice(0, 40)) : "not text"}; ${hint}`,
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
