/**
 * The limits, by the name that each has in the configuration file, with Consul's names where Consul
 * has them. In the environment each is `MESHCA_LIMITS_` and the name in upper case.
 * @module
 */
import * as v from "valibot";
import { duration } from "./duration.ts";

const whole = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`;
  return v.pipe(
    v.string(),
    v.regex(/^\d{1,10}$/, message),
    v.transform(Number),
    v.minValue(min, message),
    v.maxValue(max, message),
  );
};

/** Consul's form of a rate: -1 is none. */
const rate = v.pipe(
  v.string(),
  v.regex(/^(-1|\d{1,9}(\.\d{1,9})?)$/, "must be a number of requests a second, or -1 for any"),
  v.transform((text) => (text === "-1" ? Number.POSITIVE_INFINITY : Number(text))),
  v.check((perSecond) => perSecond > 0, "must be a number of requests a second, or -1 for any"),
);

const MODES = ["disabled", "permissive", "enforcing"] as const;

/**
 * As the environment gives them; a key that is not there keeps what http/limits.ts or
 * core/ca/policy.ts says.
 */
export const LIMITS = {
  // As in Consul, 0 is none.
  http_max_conns_per_client: v.optional(
    v.pipe(
      whole(0, 1_000_000),
      v.transform((count) => (count === 0 ? Number.POSITIVE_INFINITY : count)),
    ),
  ),
  requests_per_client: v.optional(whole(1, 1_000_000)),
  wrong_tokens_per_client: v.optional(whole(1, 1_000_000)),
  tokens_per_login: v.optional(whole(1, 1_000_000)),
  watchers_per_client: v.optional(whole(1, 1_000_000)),
  watchers: v.optional(whole(1, 1_000_000)),
  signing_queue: v.optional(whole(4, 100_000)),
  max_url_length: v.optional(whole(256, 16_384)),
  // Requests are 16 KiB of PEM at most, which is 32 KiB of JSON.
  max_body_sign: v.optional(whole(1024, 32 * 1024)),
  max_body_configuration: v.optional(whole(1024, 1024 * 1024)),
  max_body_backup: v.optional(whole(1024, 1024 * 1024)),
  body_time: v.optional(duration(100, 600_000, "from 100ms to 10m, for example 10s")),
  // Bun's own bound is 255 seconds.
  idle_time: v.optional(duration(1000, 255_000, "from 1s to 255s, for example 30s")),
  mode: v.optional(v.picklist(MODES, `must be one of ${MODES.join(", ")}`)),
  read_rate: v.optional(rate),
  write_rate: v.optional(rate),
};
export type LimitName = keyof typeof LIMITS;

/** Those that the file has in `limits.request_limits`, as Consul's has. */
export const REQUEST_LIMITS: readonly LimitName[] = ["mode", "read_rate", "write_rate"];

export type LimitSettings = { readonly [Name in LimitName]?: v.InferOutput<(typeof LIMITS)[Name]> };

/** What a limit is called in the environment. */
export const limitVariable = (name: string): string => `MESHCA_LIMITS_${name.toUpperCase()}`;

/** Keys of `limits` that Consul has and that mean nothing here. */
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
