/**
 * The limits that an operator can configure. Each has one name in meshca and one in the
 * configuration file, Consul's name if Consul has the limit; in the environment it is
 * `MESHCA_LIMITS_` and the latter in upper case.
 * @module
 */
import * as v from "valibot";
import { duration, parsed, wholeNumber } from "./values.ts";

/** Consul's form of a rate: -1 is unlimited. */
const rate = parsed((text) => {
  if (text === "-1") return Number.POSITIVE_INFINITY;
  return /^\d{1,9}(\.\d{1,9})?$/.test(text) && Number(text) > 0 ? Number(text) : null;
}, "must be a number of requests a second, or -1 for unlimited");

const MODES = ["disabled", "permissive", "enforcing"] as const;

const limit = <Schema extends v.GenericSchema<string, unknown>>(key: string, schema: Schema) => ({
  key,
  schema,
});

/** An absent limit keeps the default of http/limits.ts, core/ca/timing-and-limits.ts or the server. */
const LIMITS = {
  // As in Consul, 0 is unlimited.
  connectionsPerClient: limit(
    "http_max_conns_per_client",
    v.pipe(
      wholeNumber(0, 1_000_000),
      v.transform((count) => (count === 0 ? Number.POSITIVE_INFINITY : count)),
    ),
  ),
  requestsPerClient: limit("requests_per_client", wholeNumber(1, 1_000_000)),
  wrongTokensPerClient: limit("wrong_tokens_per_client", wholeNumber(1, 1_000_000)),
  tokensPerLogin: limit("tokens_per_login", wholeNumber(1, 1_000_000)),
  watchersPerClient: limit("watchers_per_client", wholeNumber(1, 1_000_000)),
  watchers: limit("watchers", wholeNumber(1, 1_000_000)),
  maxPendingLeaves: limit("signing_queue", wholeNumber(4, 100_000)),
  maxUrlLength: limit("max_url_length", wholeNumber(256, 16_384)),
  // Requests are 16 KiB of PEM at most, which is 32 KiB of JSON.
  maxBodySign: limit("max_body_sign", wholeNumber(1024, 32 * 1024)),
  maxBodyConfiguration: limit("max_body_configuration", wholeNumber(1024, 1024 * 1024)),
  maxBodyBackup: limit("max_body_backup", wholeNumber(1024, 1024 * 1024)),
  bodyTimeMs: limit("body_time", duration(100, 600_000, "from 100ms to 10m, for example 10s")),
  // The largest idleTimeout of Bun.serve is 255 seconds.
  idleMs: limit("idle_time", duration(1000, 255_000, "from 1s to 255s, for example 30s")),
  requestMode: limit("mode", v.picklist(MODES, `must be one of ${MODES.join(", ")}`)),
  readRate: limit("read_rate", rate),
  writeRate: limit("write_rate", rate),
};
export type LimitName = keyof typeof LIMITS;

type LimitSettings = {
  readonly [Name in LimitName]?: v.InferOutput<(typeof LIMITS)[Name]["schema"]>;
};

/** What the limit of a key in the configuration file is called in the environment. */
export const limitVariable = (key: string): string => `MESHCA_LIMITS_${key.toUpperCase()}`;

/** The name of a limit's variable in the environment. */
export const variableOf = (name: LimitName): string => limitVariable(LIMITS[name].key);

/** The schemas of all limits by their variables. */
export const LIMIT_ENTRIES = Object.fromEntries(
  Object.values(LIMITS).map(({ key, schema }) => [limitVariable(key), v.optional(schema)]),
);

/** The limits among parsed settings. */
export function limitsOf(settings: Readonly<Record<string, unknown>>): LimitSettings {
  const given = (Object.keys(LIMITS) as LimitName[])
    .map((name) => [name, settings[variableOf(name)]])
    .filter(([, value]) => value !== undefined);
  // LIMIT_ENTRIES parsed each of them.
  return Object.fromEntries(given) as LimitSettings;
}

/** Keys that the configuration file has in `limits.request_limits`, as Consul's. */
export const REQUEST_LIMIT_KEYS: readonly string[] = ["mode", "read_rate", "write_rate"];

/** Keys that the configuration file has in `limits` itself. */
export const LIMIT_KEYS: readonly string[] = Object.values(LIMITS)
  .map(({ key }) => key)
  .filter((key) => !REQUEST_LIMIT_KEYS.includes(key));

/** Keys of Consul's `limits` that have no meaning here. */
export const CONSUL_LIMITS: readonly string[] = [
  "https_handshake_timeout",
  "kv_max_value_size",
  "rpc_client_timeout",
  "rpc_handshake_timeout",
  "rpc_max_burst",
  "rpc_max_conns_per_client",
  "rpc_rate",
  "txn_max_req_len",
];
