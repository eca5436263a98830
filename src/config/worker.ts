/**
 * The settings of a Worker: its bindings, read by the same schema as a process's environment, and
 * what a Worker cannot be told because there is no such thing there.
 * @module
 */
import * as v from "valibot";
import { ConfigError, type Violation } from "../core/errors.ts";
import { duration } from "./duration.ts";
import { type LimitName, variableOf } from "./limits.ts";
import { readSettings, type Settings, unknownSettings } from "./settings.ts";

const FILE = "a Worker has no files";
const PLATFORM = "Cloudflare ends TLS and owns the address";
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
 * One read a second is nothing to Redis; above a heartbeat's 3 s a Worker in use would not count as
 * alive throughout.
 */
const maxAge = v.optional(duration(0, 3000, "from 0s to 3s, for example 1s"), "1s");

export interface WorkerSettings extends Settings {
  /** For how long what was read is served without asking Redis again. */
  readonly maxAgeMs: number;
}

/** Settings that mean nothing here, and why. */
const REFUSED = new Map<string, string>([
  ["MESHCA_LISTEN", PLATFORM],
  ["MESHCA_ADVERTISE", PLATFORM],
  ["MESHCA_PLAIN_HTTP", PLATFORM],
  ["MESHCA_TLS", PLATFORM],
  ["MESHCA_TLS_CERT_FILE", PLATFORM],
  ["MESHCA_TLS_KEY_FILE", PLATFORM],
  ["MESHCA_TLS_NAMES", PLATFORM],
  ["MESHCA_TLS_CLIENT_CA_FILE", PLATFORM],
  ["MESHCA_TLS_CLIENT_CERT", PLATFORM],
  ["MESHCA_TLS_MIN_VERSION", PLATFORM],
  ["MESHCA_DATA_DIR", FILE],
  ["MESHCA_CONFIG", `${FILE}; set each MESHCA_* by itself`],
  ["MESHCA_KEK_FILE", `${FILE}; put the keys into the secret MESHCA_KEK`],
  ["MESHCA_KEK_VAULT", `${FILE}; put the keys into the secret MESHCA_KEK`],
  ["MESHCA_SECRET_DIRS", FILE],
  [
    "MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE",
    `${FILE}; use the secret MESHCA_INITIAL_MANAGEMENT_TOKEN`,
  ],
  [
    "MESHCA_IMPORT",
    `${FILE}; import with one start of meshca serve on the same Redis, or PUT /v1/connect/ca/backup`,
  ],
  ...PROCESS_LIMITS.map((name): [string, string] => [variableOf(name), CLIENTS]),
]);

/**
 * Reads the settings of a Worker.
 * @param bindings what the runtime hands over; those that do not begin with MESHCA_ are not looked
 * at.
 * @throws {ConfigError} with every fault, and what to set
 */
export function readWorkerSettings(
  bindings: Readonly<Record<string, unknown>>,
  configNames: readonly string[],
): WorkerSettings {
  const faults: Violation[] = [];
  const fault = (field: string, message: string) =>
    faults.push({ code: "config_invalid", field, message: `${field}: ${message}` });
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(bindings)) {
    if (!name.startsWith("MESHCA_") || value === "") continue;
    const why = REFUSED.get(name);
    if (why !== undefined) fault(name, `has no meaning in a Worker: ${why}`);
    else if (typeof value === "string") texts[name] = value;
    else fault(name, "must be a text: a secret or a variable, not another kind of binding");
  }
  const { MESHCA_MAX_AGE, ...shared } = texts;
  // A name that is nearly a setting's was meant as that one, which is not missing then.
  const meant = unknownSettings(texts, ["MESHCA_MAX_AGE"]).map(({ near }) => near);
  const isMissing = (name: string) =>
    shared[name] === undefined &&
    !meant.includes(name) &&
    !faults.some(({ field }) => field === name);
  const age = v.safeParse(maxAge, MESHCA_MAX_AGE);
  if (!age.success) fault("MESHCA_MAX_AGE", age.issues[0].message);
  const { MESHCA_STORE: store, MESHCA_ACL: acl, MESHCA_AUDIT: audit } = shared;
  if (isMissing("MESHCA_STORE"))
    fault(
      "MESHCA_STORE",
      "is missing: set it to redis://... or rediss://... with: npx wrangler secret put MESHCA_STORE",
    );
  else if (store !== undefined && !/^rediss?:/.test(store))
    fault(
      "MESHCA_STORE",
      "must be redis:// or rediss:// of one server: a Worker has no files, and opens one connection for a request",
    );
  if (isMissing("MESHCA_KEK"))
    fault(
      "MESHCA_KEK",
      'is missing: make one with echo "$(date +%Y):$(openssl rand -base64 32)", set it with: npx wrangler secret put MESHCA_KEK',
    );
  // There is no data folder for a bootstrap secret, and no loopback to come from.
  if (isMissing("MESHCA_INITIAL_MANAGEMENT_TOKEN"))
    fault(
      "MESHCA_INITIAL_MANAGEMENT_TOKEN",
      "is missing: nobody could be let in; make one with openssl rand -hex 16, set it with: npx wrangler secret put MESHCA_INITIAL_MANAGEMENT_TOKEN",
    );
  if (acl === "off")
    fault("MESHCA_ACL", "cannot be off in a Worker: it is open to the Internet; use deny");
  if (audit !== undefined && audit !== "off" && audit !== "stdout")
    fault(
      "MESHCA_AUDIT",
      "must be off or stdout, which is the log of the Worker: a Worker has no files",
    );
  let settings: Settings | null = null;
  try {
    // As behind any proxy that ends TLS: what follows from serving beyond loopback follows here.
    const served = { ...shared, MESHCA_LISTEN: "0.0.0.0:443", MESHCA_PLAIN_HTTP: "behind-proxy" };
    // What would follow from no access control would only tell the same again.
    settings = readSettings(
      acl === "off" ? { ...served, MESHCA_ACL: "deny" } : served,
      noFile,
      configNames,
    );
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    // What is missing was named above, in words that fit here; where it listens was told by us.
    const named = new Set(["MESHCA_LISTEN", ...faults.map(({ field }) => field)]);
    faults.push(...error.violations.filter(({ field }) => !named.has(field)));
  }
  if (age.success && settings !== null && age.output > settings.maxStalenessMs)
    fault("MESHCA_MAX_AGE", "must not be above MESHCA_MAX_STALENESS");
  if (age.success && settings !== null && faults.length === 0)
    return { ...settings, maxAgeMs: age.output };
  throw new ConfigError(
    `Cannot serve:\n${faults.map(({ message }) => `  ${message}`).join("\n")}`,
    faults,
  );
}

function noFile(): never {
  throw new TypeError("A Worker has no files");
}
