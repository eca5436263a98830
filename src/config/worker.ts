/**
 * The settings of a Worker: its bindings, read by the schema of a process's environment, without the
 * settings that have no meaning on Workers.
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "../core/errors.ts";
import { Faults } from "./faults.ts";
import { type LimitName, variableOf } from "./limits.ts";
import { readSettings, type Settings, unknownSettings } from "./settings.ts";
import { TLS_ENTRIES } from "./tls.ts";
import { duration } from "./values.ts";

const FILE = "a Worker has no files";
const PLATFORM = "Cloudflare terminates TLS and owns the address";
const PUBLIC_CAS = "it verifies servers by the public CAs, and by nothing else";
const CLIENTS = "no isolate sees all requests; use rate limiting rules of the zone";

/** Limits of one process, which an isolate is not. */
const PROCESS_LIMITS: readonly LimitName[] = [
  "connectionsPerClient",
  "requestsPerClient",
  "watchersPerClient",
  "watchers",
  "maxPendingLeaves",
  "idleMs",
  "requestMode",
  "readRate",
  "writeRate",
];

/**
 * Redis is read once in this time. With more than the 3 s of a heartbeat, a Worker in use would not
 * always count as alive.
 */
const maxAge = v.optional(duration(0, 3000, "from 0s to 3s, for example 1s"), "1s");

export interface WorkerSettings extends Settings {
  /** How long the state that was read is served without reading Redis again. */
  readonly maxAgeMs: number;
}

/** The settings that have no meaning here, and why. */
const REFUSED = new Map<string, string>([
  ["MESHCA_LISTEN", PLATFORM],
  ["MESHCA_ADVERTISE", PLATFORM],
  ...Object.keys(TLS_ENTRIES).map((name): [string, string] => [name, PLATFORM]),
  ["MESHCA_DATA_DIR", FILE],
  ["MESHCA_STORE_FILE", `${FILE}; put the URL into the secret MESHCA_STORE`],
  ["MESHCA_CONFIG", `${FILE}; set each MESHCA_* by itself`],
  ["MESHCA_KEK_FILE", `${FILE}; put the keys into the secret MESHCA_KEK`],
  ["MESHCA_KEK_VAULT", `${FILE}; put the keys into the secret MESHCA_KEK`],
  ["MESHCA_SECRET_DIRS", FILE],
  [
    "MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE",
    `${FILE}; use the secret MESHCA_INITIAL_MANAGEMENT_TOKEN`,
  ],
  ["MESHCA_REPLICATION_TOKEN_FILE", `${FILE}; use the secret MESHCA_REPLICATION_TOKEN`],
  ["MESHCA_PRIMARY_CA_FILE", PUBLIC_CAS],
  ["MESHCA_PRIMARY_CA_PIN", PUBLIC_CAS],
  [
    "MESHCA_IMPORT",
    `${FILE}; import with one start of meshca serve on the same Redis, or PUT /v1/connect/ca/backup`,
  ],
  ...PROCESS_LIMITS.map((name): [string, string] => [variableOf(name), CLIENTS]),
]);

/** The secrets that must be set, and how. */
const REQUIRED: readonly (readonly [name: string, reason: string])[] = [
  ["MESHCA_STORE", "is required: set it to redis://... or rediss://... with"],
  [
    "MESHCA_KEK",
    'is required: make one with echo "$(date +%Y):$(openssl rand -base64 32)", and set it with',
  ],
  // There is neither a data folder for a bootstrap secret nor a loopback address to call from.
  [
    "MESHCA_INITIAL_MANAGEMENT_TOKEN",
    "is required: without an initial management token no caller could authenticate. Make one with openssl rand -hex 16, and set it with",
  ],
];

/**
 * Reads the settings of a Worker.
 * @param bindings the bindings of the runtime; only those that begin with MESHCA_ are read.
 * @throws {ConfigError} with every fault, and what to set
 */
export function readWorkerSettings(
  bindings: Readonly<Record<string, unknown>>,
  configNames: readonly string[],
): WorkerSettings {
  const faults = new Faults();
  const { MESHCA_MAX_AGE, ...given } = textsOf(bindings, faults);
  const age = v.safeParse(maxAge, MESHCA_MAX_AGE);
  if (!age.success) faults.add("MESHCA_MAX_AGE", age.issues[0].message);
  refuseMissing(given, faults);
  const { MESHCA_STORE: store, MESHCA_ACL: acl, MESHCA_AUDIT: audit } = given;
  if (store !== undefined && !/^rediss?:/.test(store))
    faults.add(
      "MESHCA_STORE",
      "must be redis:// or rediss:// of one server: a Worker has no files, and opens one connection for a request",
    );
  if (acl === "off")
    faults.add("MESHCA_ACL", "cannot be off in a Worker: it is open to the Internet; use deny");
  if (audit !== undefined && audit !== "off" && audit !== "stdout")
    faults.add(
      "MESHCA_AUDIT",
      "must be off or stdout, which is the log of the Worker: a Worker has no files",
    );
  const settings = readShared(given, configNames, faults);
  if (age.success && settings !== null && age.output > settings.maxStalenessMs)
    faults.add("MESHCA_MAX_AGE", "must not be above MESHCA_MAX_STALENESS");
  if (!age.success || settings === null || faults.any) throw faults.error("Cannot serve");
  return { ...settings, maxAgeMs: age.output };
}

/** The bindings that are settings with a meaning here. */
function textsOf(bindings: Readonly<Record<string, unknown>>, faults: Faults) {
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(bindings)) {
    if (!name.startsWith("MESHCA_") || value === "") continue;
    const why = REFUSED.get(name);
    if (why !== undefined) faults.add(name, `has no meaning in a Worker: ${why}`);
    else if (typeof value === "string") texts[name] = value;
    else faults.add(name, "must be a text: a secret or a variable, not another kind of binding");
  }
  return texts;
}

function refuseMissing(given: Readonly<Record<string, string>>, faults: Faults): void {
  // A misspelt setting is reported as such, and not as missing.
  const meant = unknownSettings(given).map(({ near }) => near);
  for (const [name, reason] of REQUIRED)
    if (given[name] === undefined && !meant.includes(name) && !faults.has(name))
      faults.add(name, `${reason}: npx wrangler secret put ${name}`);
}

/** The settings that a Worker shares with a process. */
function readShared(
  given: Readonly<Record<string, string>>,
  configNames: readonly string[],
  faults: Faults,
): Settings | null {
  // Cloudflare is a proxy that terminates TLS: the rules beyond loopback apply.
  const behindProxy = { MESHCA_LISTEN: "0.0.0.0:443", MESHCA_PLAIN_HTTP: "behind-proxy" };
  // Faults that follow from MESHCA_ACL=off would repeat that fault.
  const acl = given.MESHCA_ACL === "off" ? { MESHCA_ACL: "deny" } : {};
  try {
    return readSettings({ ...given, ...behindProxy, ...acl }, noFile, configNames, true);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    // MESHCA_LISTEN is not the operator's; other fields may have a fault already.
    const named = new Set(["MESHCA_LISTEN", ...faults.violations.map(({ field }) => field)]);
    faults.violations.push(...error.violations.filter(({ field }) => !named.has(field)));
    return null;
  }
}

function noFile(): never {
  throw new TypeError("A Worker has no files");
}
