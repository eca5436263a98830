/**
 * Auth methods: what their settings may be, and which fields a login through one has. The names are
 * Consul's; a method of type `kubernetes` either asks the cluster's TokenReview, as Consul's does,
 * or checks tokens by the cluster's key set.
 * @module
 */
import * as v from "valibot";
import { parseDuration } from "../consul/duration.ts";
import type { AuthMethod, BindingRule } from "../core/acl/types.ts";
import type { Bytes } from "../core/bytes.ts";
import { FormatError, RequestError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { isOnePem, readPem } from "../core/pem.ts";
import { DerReader, TAG } from "../core/x509/der.ts";
import type { KeySource } from "./jwks.ts";
import type { SealedText } from "./method-secrets.ts";
import { readSelector, readTemplate, type Selector, type Template } from "./selector.ts";
import { isIdentityName } from "./tokens.ts";

/**
 * Signatures by a private key. `none` and HS* are not among them: a public key must never become a
 * shared secret.
 */
export const ALGORITHMS = [
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

/** Consul's leeways by default: for clocks, and for instants that a token does not have. */
const [CLOCK_LEEWAY_MS, MISSING_LEEWAY_MS] = [60_000, 150_000];
/** More than any clock is off. */
export const MAX_LEEWAY_MS = 3_600_000;
/** Keys of an issuer that changes them; and fields that a rule may want. */
const [MAX_KEYS, MAX_MAPPINGS] = [32, 64];

export interface MethodSettings {
  readonly algorithms: readonly string[];
  /** Null: any issuer, which the keys alone decide then. */
  readonly issuer: string | null;
  /** Empty: any audience, as in Consul. */
  readonly audiences: readonly string[];
  /** Where keys come from, or null. */
  readonly keySource: KeySource | null;
  /**
   * Where Kubernetes reviews tokens, with the sealed token that asks; null if they are checked by
   * keys.
   */
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
  /** Whether a login token is taken once only, by its `jti`. */
  readonly once: boolean;
  /** The fields that a login has. */
  readonly fields: ReadonlyMap<string, "text" | "list">;
}

const texts = v.array(v.string());
/** Read back, an auth method shows its keys: what is not public must not become one. */
const publicKey = v.pipe(
  v.string(),
  v.check(isPublicPem, "must be a public key or a certificate in PEM, and nothing else"),
);
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
          addIssue({ message: "is more than an hour" });
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
 * From claims to names of fields. valibot's records leave out keys such as `constructor`, which a
 * claim may be called.
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
        if (entries.length > MAX_MAPPINGS) addIssue({ message: "has too many entries" });
        else if (
          entries.every(
            (entry): entry is [string, string] =>
              typeof entry[1] === "string" && FIELD_NAME.test(entry[1]),
          )
        )
          return new Map(entries);
        else addIssue({ message: "has a name that is not letters, digits and _" });
      }
      return NEVER;
    }),
  ),
  {},
);

const certificates = v.optional(
  v.pipe(v.string(), v.check(isCertificates, "must be certificates in PEM, and nothing else")),
  "",
);

const Keys = {
  JWTSupportedAlgs: v.optional(
    v.pipe(
      v.array(v.picklist(ALGORITHMS, "has an algorithm that is not taken")),
      v.minLength(1, "is empty"),
    ),
    ["RS256"],
  ),
  BoundIssuer: v.optional(v.string(), ""),
  BoundAudiences: v.optional(texts, []),
  JWKSURL: v.optional(v.string(), ""),
  JWKSCACert: certificates,
  JWTValidationPubKeys: v.optional(
    v.pipe(v.array(publicKey), v.maxLength(MAX_KEYS, "has too many keys")),
    [],
  ),
  ClockSkewLeeway: leeway(CLOCK_LEEWAY_MS),
  /** Ours. */
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
    /** As an operator gives it, and sealed as it is stored. */
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
    throw new RequestError("request_malformed", `Invalid auth method config: ${faults.join("; ")}`);
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
    // A pod presents one token again and again until it is about to end.
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

/** What settings do not go together. */
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
    if (given(needs) && !given(other)) faults.push(`${needs} goes with ${other}, which is not set`);
  if (given("Host"))
    for (const name of ["CACert", "ServiceAccountJWT"] as const)
      if (!given(name)) faults.push(`${name} is required with Host`);
  if (
    config.OIDCDiscoveryURL &&
    config.BoundIssuer !== "" &&
    config.BoundIssuer !== config.OIDCDiscoveryURL
  )
    faults.push("BoundIssuer must be OIDCDiscoveryURL, which is the issuer, or be left out");
  return faults;
}

/** The form of a JWT in its compact form (RFC 7519 §3). */
function isJwt(text: string): boolean {
  return text === "" || /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(text);
}

function isCertificates(text: string): boolean {
  if (text === "") return true;
  try {
    const blocks = readPem(text);
    for (const { bytes } of blocks) requireCertificateForm(bytes);
    return blocks.length > 0 && blocks.every(({ label }) => label === "CERTIFICATE");
  } catch (error) {
    if (error instanceof FormatError) return false;
    throw error;
  }
}

/**
 * RFC 5280 section 4.1: what is signed, the algorithm, the signature. What TLS takes of it is up to
 * TLS.
 * @throws {FormatError}
 */
function requireCertificateForm(der: Bytes): void {
  const outer = new DerReader(der);
  const certificate = outer.enter(TAG.sequence);
  outer.finish();
  certificate.expect(TAG.sequence);
  certificate.expect(TAG.sequence);
  certificate.bitString();
  certificate.finish();
}

function isPublicPem(text: string): boolean {
  try {
    return (
      isOnePem(text) &&
      readPem(text).every(({ label }) => label === "PUBLIC KEY" || label === "CERTIFICATE")
    );
  } catch (error) {
    if (error instanceof FormatError) return false;
    throw error;
  }
}

export interface BindingSettings {
  readonly selector: Selector;
  readonly bindName: Template;
}

/**
 * Reads a binding rule against the fields of its method.
 * @throws {RequestError} `request_malformed`
 */
export function readBinding(
  rule: Pick<BindingRule, "bindName" | "selector">,
  { fields }: Pick<MethodSettings, "fields">,
): BindingSettings {
  const malformed = (what: string, why: string) =>
    new RequestError("request_malformed", `Invalid Binding Rule: ${what}: ${why}`);
  const read = <T>(what: string, work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw error instanceof FormatError ? malformed(what, error.message) : error;
    }
  };
  const selector = read("Selector is invalid", () => readSelector(rule.selector, fields));
  const bindName = read("BindName is invalid", () => readTemplate(rule.bindName));
  for (const variable of bindName.variables) {
    if (fields.get(variable) !== "text")
      throw malformed("BindName is invalid", `unknown variable ${JSON.stringify(variable)}`);
  }
  const sample = bindName.fill(new Map([...fields.keys()].map((name) => [name, "fake"])));
  if (sample === null || !isIdentityName(sample))
    throw malformed(
      "BindName is invalid",
      "only lowercase alphanumeric characters, '-' and '_' are allowed around variables",
    );
  return { selector, bindName };
}
