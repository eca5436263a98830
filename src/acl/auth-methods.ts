/**
 * Auth methods: their settings, and the fields that a login through one has. The names are Consul's.
 * A method of type `kubernetes` either asks the cluster's TokenReview, as in Consul, or checks tokens
 * with the cluster's key set.
 * @module
 */
import * as v from "valibot";
import { parseDuration } from "../consul/duration.ts";
import type { AuthMethod } from "../core/acl/types.ts";
import { FormatError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { malformed } from "./errors.ts";
import type { KeySource } from "./jwks.ts";
import type { SealedText } from "./method-secrets.ts";
import { certificates, publicKey } from "./pem-schema.ts";

/** Without `none` and HS*: a public key must never be used as a shared secret (RFC 8725 §2.1). */
const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
] as const;

/** Consul's default leeways: for clocks, and for times that a token lacks. */
const [CLOCK_LEEWAY_MS, MISSING_LEEWAY_MS] = [60_000, 150_000];
/** More than clocks differ. */
export const MAX_LEEWAY_MS = 3_600_000;
/** Keys of an issuer that rotates them; fields that rules use. */
const [MAX_KEYS, MAX_MAPPINGS] = [32, 64];

export interface MethodSettings {
  readonly algorithms: readonly string[];
  /** Null: any issuer with one of the keys. */
  readonly issuer: string | null;
  /** Empty: any audience, as in Consul. */
  readonly audiences: readonly string[];
  /** Where keys come from, or null. */
  readonly keySource: KeySource | null;
  /** Where Kubernetes reviews tokens; null if they are checked with keys. */
  readonly review: {
    readonly host: string;
    readonly ca: string;
    readonly token: string | SealedText;
  } | null;
  /** PEM, public keys or certificates. */
  readonly keys: readonly string[];
  /** From a claim, by name or JSON pointer, to `value.<name>` or `list.<name>`. */
  readonly claims: ReadonlyMap<string, string>;
  readonly listClaims: ReadonlyMap<string, string>;
  readonly clockLeewayMs: number;
  readonly expirationLeewayMs: number;
  readonly notBeforeLeewayMs: number;
  /** Whether a login token is accepted once only, by its `jti`. */
  readonly once: boolean;
  /** The fields that a login has. */
  readonly fields: ReadonlyMap<string, "text" | "list">;
}

const texts = v.array(v.string());
/** Go reads a number as nanoseconds. Consul: zero means the default, a negative one none at all. */
const leeway = (byDefault: number) =>
  v.optional(
    v.pipe(
      v.union([v.string(), v.number()]),
      v.rawTransform(({ dataset, addIssue, NEVER }): number => {
        try {
          const ms =
            typeof dataset.value === "number" ? dataset.value / 1e6 : parseDuration(dataset.value);
          if (ms <= MAX_LEEWAY_MS) return ms < 0 ? 0 : ms || byDefault;
          addIssue({ message: "is longer than an hour" });
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
          addIssue({ message: error.message });
        }
        return NEVER;
      }),
    ),
    0,
  );
const FIELD_NAME = /^[A-Za-z0-9_]{1,64}$/;
/**
 * From claims to names of fields. It is no v.record, which drops keys such as `constructor`, which a
 * claim can have.
 */
const mappings = v.optional(
  v.pipe(
    v.unknown(),
    v.rawTransform(({ dataset, addIssue, NEVER }): ReadonlyMap<string, string> => {
      const { value } = dataset;
      if (typeof value !== "object" || value === null || Array.isArray(value))
        addIssue({ message: "must be an object" });
      else {
        const entries = Object.entries(value);
        if (entries.length > MAX_MAPPINGS)
          addIssue({ message: `has more than ${MAX_MAPPINGS} entries` });
        else if (
          entries.every(
            (entry): entry is [string, string] =>
              typeof entry[1] === "string" && FIELD_NAME.test(entry[1]),
          )
        )
          return new Map(entries);
        else
          addIssue({
            message: "has a field name with other characters than letters, digits and _",
          });
      }
      return NEVER;
    }),
  ),
  {},
);

const Keys = {
  JWTSupportedAlgs: v.optional(
    v.pipe(
      v.array(
        v.picklist(
          ALGORITHMS,
          `has an algorithm that is not supported; supported are ${ALGORITHMS.join(", ")}`,
        ),
      ),
      v.minLength(1, "is empty"),
    ),
    ["RS256"],
  ),
  BoundIssuer: v.optional(v.string(), ""),
  BoundAudiences: v.optional(texts, []),
  JWKSURL: v.optional(v.string(), ""),
  JWKSCACert: certificates,
  JWTValidationPubKeys: v.optional(
    v.pipe(v.array(publicKey), v.maxLength(MAX_KEYS, `has more than ${MAX_KEYS} keys`)),
    [],
  ),
  ClockSkewLeeway: leeway(CLOCK_LEEWAY_MS),
  /** Not in Consul. */
  OneTime: v.optional(v.boolean()),
};
const Schemas = {
  jwt: v.strictObject({
    ...Keys,
    OIDCDiscoveryURL: v.optional(v.string(), ""),
    OIDCDiscoveryCACert: certificates,
    ExpirationLeeway: leeway(MISSING_LEEWAY_MS),
    NotBeforeLeeway: leeway(MISSING_LEEWAY_MS),
    ClaimMappings: mappings,
    ListClaimMappings: mappings,
  }),
  kubernetes: v.strictObject({
    ...Keys,
    Host: v.optional(v.string(), ""),
    CACert: certificates,
    /** Text from an operator, encrypted in the store. */
    ServiceAccountJWT: v.optional(
      v.union(
        [
          v.pipe(v.string(), v.check(isJwt, "must be a JWT")),
          v.strictObject({ sealed: v.string() }),
        ],
        "must be a JWT",
      ),
      "",
    ),
  }),
};
/** The fields of `Config`, by the type of the auth method. */
export const CONFIG_FIELDS: Readonly<Record<AuthMethod["type"], readonly string[]>> = {
  jwt: Object.keys(Schemas.jwt.entries),
  kubernetes: Object.keys(Schemas.kubernetes.entries),
};
type Config = Partial<
  v.InferOutput<typeof Schemas.jwt> & v.InferOutput<typeof Schemas.kubernetes>
> &
  v.InferOutput<v.StrictObjectSchema<typeof Keys, undefined>>;

/** Kubernetes' service account, as Consul names its fields. */
export const KUBERNETES_FIELDS = [
  "serviceaccount.name",
  "serviceaccount.namespace",
  "serviceaccount.uid",
] as const;

/** Reads an auth method's settings. @throws {RequestError} `request_malformed` with all faults */
export function readSettings({
  type,
  config,
}: Pick<AuthMethod, "type" | "config">): MethodSettings {
  const schema: v.GenericSchema<unknown, Config> = Schemas[type];
  const known = CONFIG_FIELDS[type];
  const faults = Object.keys(config).flatMap((name) => {
    if (known.includes(name)) return [];
    const near = nearest(name, known);
    return [
      `unknown field ${JSON.stringify(name)}${near === null ? "" : `; did you mean ${near}?`}`,
    ];
  });
  const read = v.safeParse(
    schema,
    Object.fromEntries(Object.entries(config).filter(([name]) => known.includes(name))),
  );
  if (!read.success)
    faults.push(
      ...read.issues.map((issue) => `${v.getDotPath(issue) ?? "config"} ${issue.message}`),
    );
  const result = read.success ? read.output : null;
  if (result !== null) faults.push(...contradictions(type, result));
  if (faults.length > 0 || result === null)
    throw malformed(`Invalid auth method config: ${faults.join("; ")}`);
  const claims = result.ClaimMappings ?? new Map<string, string>();
  const listClaims = result.ListClaimMappings ?? new Map<string, string>();
  const fields = new Map<string, "text" | "list">([
    ...(type === "kubernetes" ? KUBERNETES_FIELDS : []).map((name) => [name, "text"] as const),
    ...[...claims.values()].map((name) => [`value.${name}`, "text"] as const),
    ...[...listClaims.values()].map((name) => [`list.${name}`, "list"] as const),
  ]);
  return {
    algorithms: result.JWTSupportedAlgs,
    // OpenID Connect Core 1.0 §3.1.3.7: the issuer is the one that was discovered.
    issuer: result.BoundIssuer || result.OIDCDiscoveryURL || null,
    audiences: result.BoundAudiences,
    keySource: keySourceOf(result),
    review: result.Host
      ? { host: result.Host, ca: result.CACert ?? "", token: result.ServiceAccountJWT ?? "" }
      : null,
    keys: result.JWTValidationPubKeys,
    claims,
    listClaims,
    clockLeewayMs: result.ClockSkewLeeway,
    expirationLeewayMs: result.ExpirationLeeway ?? MISSING_LEEWAY_MS,
    notBeforeLeewayMs: result.NotBeforeLeeway ?? MISSING_LEEWAY_MS,
    // A pod presents one token repeatedly until shortly before it expires.
    once: result.OneTime ?? type === "jwt",
    fields,
  };
}

function keySourceOf({
  JWKSURL,
  JWKSCACert,
  OIDCDiscoveryURL,
  OIDCDiscoveryCACert,
}: Config): KeySource | null {
  if (JWKSURL !== "") return { url: JWKSURL, discovery: false, ca: JWKSCACert || null };
  return OIDCDiscoveryURL
    ? { url: OIDCDiscoveryURL, discovery: true, ca: OIDCDiscoveryCACert || null }
    : null;
}

/** Settings that contradict each other. */
function contradictions(type: AuthMethod["type"], config: Config): string[] {
  const faults: string[] = [];
  const given = (name: keyof Config) =>
    config[name] !== undefined &&
    config[name] !== "" &&
    (config[name] as { length?: number }).length !== 0;
  const sources =
    type === "jwt"
      ? (["JWTValidationPubKeys", "JWKSURL", "OIDCDiscoveryURL"] as const)
      : (["Host", "JWTValidationPubKeys", "JWKSURL"] as const);
  // Consul's text (agent/consul/authmethod/ssoauth).
  if (sources.filter(given).length !== 1) {
    const [first, second, third] = sources;
    faults.push(
      `exactly one of '${first}', '${second}', or '${third}' must be set for type ${JSON.stringify(type)}`,
    );
  }
  for (const [needs, other] of [
    ["JWKSCACert", "JWKSURL"],
    ["OIDCDiscoveryCACert", "OIDCDiscoveryURL"],
    ["CACert", "Host"],
    ["ServiceAccountJWT", "Host"],
  ] as const)
    if (given(needs) && !given(other)) faults.push(`${needs} requires ${other}, which is not set`);
  if (given("Host"))
    for (const name of ["CACert", "ServiceAccountJWT"] as const)
      if (!given(name)) faults.push(`${name} is required with Host`);
  if (
    config.OIDCDiscoveryURL &&
    config.BoundIssuer !== "" &&
    config.BoundIssuer !== config.OIDCDiscoveryURL
  )
    faults.push(
      "BoundIssuer must be equal to OIDCDiscoveryURL, which is the issuer, or be left out",
    );
  return faults;
}

/** The compact serialization of a JWT (RFC 7519 §3). */
function isJwt(text: string): boolean {
  return text === "" || /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(text);
}
