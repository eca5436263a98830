/**
 * The schema of the agent's configuration, in the form of its file.
 * @module
 */
import * as v from "valibot";
import { RequestError } from "../core/errors.ts";
import { requireSegment } from "../core/spiffe/id.ts";
import { isIpAddress } from "../net/ip.ts";
import { isLoopback, listenAddress } from "./addresses.ts";
import { datacenter, logLevel } from "./settings-schema.ts";
import { duration, parsed, rootPin } from "./values.ts";

const DAY = 86_400_000;
/** The path of a Unix socket has 107 octets and a NUL at most (unix(7), sun_path). */
export const MAX_SOCKET_PATH = 107;

const path = parsed(
  (text) => (text !== "" && !text.includes("\0") ? text : null),
  "must be the path of a file or folder",
);

/** The origin of a server without a path, user or query. */
const server = parsed((text) => {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return null;
  const url = new URL(text);
  const isOrigin = url.pathname === "/" && `${url.search}${url.hash}${url.username}` === "";
  return isOrigin && url.password === "" ? url.origin : null;
}, "must be the URL of a server without a path, user and query, for example https://ca.example:8501");

/** Loopback as a Host of a URL has it. */
export const isLoopbackUrl = (url: string): boolean =>
  isLoopback(new URL(url).hostname.replace(/^\[|\]$/g, ""));

const service = v.pipe(
  v.string("must be the name of a service"),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    try {
      requireSegment(dataset.value, "service");
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      addIssue({ message: error.message });
    }
  }),
);

/** RFC 1123 section 2.1, with `*` as the whole first label (RFC 9525 section 6.3). */
const dnsName = parsed((text) => {
  const name = text.toLowerCase();
  const labels = name.replace(/^\*\./, "").split(".");
  const areLabels = labels.every((label) => /^(?!-)[a-z0-9-]{1,63}(?<!-)$/.test(label));
  return name.length <= 253 && areLabels && !isIpAddress(name) ? name : null;
}, "must be a DNS name: labels of letters, digits and hyphens");

const ipAddress = parsed((text) => (isIpAddress(text) ? text : null), "must be an IP address");

/** A mode in octal, with or without a leading 0. */
const mode = (most: number, example: string) =>
  parsed(
    (text) => {
      const bits = /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : null;
      return bits !== null && (bits & ~most) === 0 ? bits : null;
    },
    `must be a mode in octal as text, at most 0${most.toString(8)}, for example "${example}"`,
  );

const account = (what: string) =>
  parsed(
    (text) => (/^[^\s:]+$/.test(text) ? text : null),
    `must be the name or number of a ${what}`,
  );

/** The address of a listener that only this machine reaches, or the path of a Unix socket. */
const agentListen = parsed((text) => {
  if (text.startsWith("unix:")) {
    const socket = text.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
    return socket === "" || socket.includes("\0") ? null : { path: socket };
  }
  const read = v.safeParse(listenAddress, text);
  return read.success ? read.output : null;
}, "must be HOST:PORT with a loopback address, for example 127.0.0.1:8502, or unix:PATH");

/**
 * Reads the address of an agent's listener.
 * @returns what `agentListen` returns, or why the text is none, in words that follow its name
 */
export function readAgentListen(text: string): v.InferOutput<typeof agentListen> | string {
  const read = v.safeParse(agentListen, text);
  return read.success ? read.output : read.issues[0].message;
}

const list = <Item extends v.GenericSchema>(item: Item, what: string) =>
  v.array(item, `must be a list of ${what}`);

/** An array has the type of an object, too. */
const block = <Entries extends v.ObjectEntries>(entries: Entries) =>
  v.pipe(
    v.custom<object>(
      (value) => typeof value === "object" && value !== null && !Array.isArray(value),
      "must be an object",
    ),
    v.strictObject(entries),
  );

const ON_CHANGE = {
  command: v.optional(
    v.pipe(
      list(v.pipe(v.string("must be a word"), v.nonEmpty("must not be empty")), "words"),
      v.minLength(1, "must have at least one word: the program"),
    ),
  ),
  signal: v.optional(
    parsed((text) => {
      const name = text.toUpperCase().replace(/^SIG/, "");
      return name === "HUP" || name === "USR1" || name === "USR2" ? name : null;
    }, "must be HUP, USR1 or USR2"),
  ),
  pid_file: v.optional(path),
  timeout: v.optional(duration(100, 3_600_000, "from 100ms to 1h, for example 30s")),
};

const IDENTITY = {
  service: v.optional(service),
  dns_names: v.optional(list(dnsName, "DNS names"), []),
  ip_addresses: v.optional(list(ipAddress, "IP addresses"), []),
  // The largest LeafCertTTL is a year; the server has its own, lower bound.
  ttl: v.optional(duration(60_000, 365 * DAY, "from 1m to 8760h, for example 1h")),
};

const SOCKET = {
  path: v.optional(path),
  listen: v.optional(listenAddress),
  identities: v.optional(list(v.string("must be the service of an identity"), "services")),
  mode: v.optional(mode(0o777, "0660")),
  group: v.optional(account("group")),
};

const FOLDER = {
  path,
  identity: v.optional(v.string("must be the service of an identity")),
  // A private key may be read by its owner and one group (PostgreSQL refuses more, for example).
  mode: v.optional(mode(0o640, "0640")),
  owner: v.optional(account("user")),
  group: v.optional(account("group")),
  shared: v.optional(v.boolean("must be true or false"), false),
  on_change: v.optional(block(ON_CHANGE)),
};

const LOGIN = {
  auth_method: v.optional(v.pipe(v.string("must be a name"), v.nonEmpty("must be a name"))),
  token_file: v.optional(path),
};

const TOP = {
  servers: v.optional(
    v.pipe(list(server, "URLs"), v.minLength(1, "must have at least one server")),
    ["http://127.0.0.1:8500"],
  ),
  ca_file: v.optional(path),
  ca_pin: v.optional(rootPin),
  datacenter: v.optional(datacenter),
  token_file: v.optional(path),
  login: v.optional(block(LOGIN)),
  identities: v.optional(list(block(IDENTITY), "identities"), []),
  sockets: v.optional(list(block(SOCKET), "sockets"), []),
  folders: v.optional(list(block(FOLDER), "folders"), []),
  listen: v.optional(agentListen),
  default_intention_policy: v.optional(v.picklist(["allow", "deny"], "must be allow or deny")),
  cache_dir: v.optional(path),
  log_level: v.optional(logLevel, "info"),
  once_timeout: v.optional(duration(100, DAY, "from 100ms to 24h, for example 60s"), "60s"),
};

export const AgentSchema = v.strictObject(TOP);
export type AgentKeys = v.InferOutput<typeof AgentSchema>;

/** The keys of each block by its path, without the numbers of lists. */
const BLOCKS: Readonly<Record<string, object>> = {
  "": TOP,
  login: LOGIN,
  identities: IDENTITY,
  sockets: SOCKET,
  folders: FOLDER,
  "folders.on_change": ON_CHANGE,
};

/** The keys that stand next to the key of a path. */
export function keysNextTo(dotPath: string): readonly string[] {
  const parent = dotPath.split(".").slice(0, -1);
  const block = parent.filter((part) => !/^\d+$/.test(part)).join(".");
  return Object.keys(BLOCKS[block] ?? {});
}

/** Every key of the configuration file, with a dot for each level; docs/workloads.md has each. */
export const AGENT_FILE_KEYS: readonly string[] = Object.entries(BLOCKS).flatMap(([block, keys]) =>
  Object.keys(keys)
    .map((key) => (block === "" ? key : `${block}.${key}`))
    .filter((key) => !Object.hasOwn(BLOCKS, key)),
);
