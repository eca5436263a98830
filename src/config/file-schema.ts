/**
 * The schema of the configuration file: which keys it has, and of which types.
 * @module
 */
import * as v from "valibot";

const text = (what: string) => v.pipe(v.string(`must be ${what}`), v.nonEmpty(`must be ${what}`));
const flag = v.optional(v.boolean("must be true or false"));

/** A schema of objects that refuses arrays, which valibot takes for objects. */
const object = <Schema extends v.GenericSchema>(schema: Schema) =>
  v.optional(
    v.pipe(
      v.unknown(),
      v.check((value) => !Array.isArray(value), "must be an object"),
      schema,
    ),
  );
const anyObject = object(v.record(v.string(), v.unknown(), "must be an object"));

export const Connect = v.strictObject({
  enabled: flag,
  ca_provider: v.optional(text("the name of a provider")),
  ca_config: anyObject,
});

export const Acl = v.strictObject({
  enabled: flag,
  default_policy: v.optional(v.picklist(["allow", "deny"], "must be allow or deny")),
  down_policy: v.optional(v.string("must be a policy")),
  enable_token_persistence: flag,
  enable_token_replication: flag,
  enable_key_list_policy: flag,
  policy_ttl: v.optional(v.string("must be a duration")),
  role_ttl: v.optional(v.string("must be a duration")),
  token_ttl: v.optional(v.string("must be a duration")),
  tokens: object(
    v.looseObject(
      {
        initial_management: v.optional(v.string("must be a token")),
        replication: v.optional(v.string("must be a token")),
      },
      "must be an object",
    ),
  ),
});

const PORT = "must be a port";
/** Consul's -1 disables a port. */
const port = v.optional(
  v.pipe(v.number(PORT), v.integer(PORT), v.minValue(-1, PORT), v.maxValue(65535, PORT)),
);
export const Ports = v.looseObject({ http: port, https: port }, "must be an object");

/** Consul's other keys of `tls` are about its RPC. */
const stanza = object(
  v.looseObject(
    {
      ca_file: v.optional(text("a file")),
      cert_file: v.optional(text("a file")),
      key_file: v.optional(text("a file")),
      tls_min_version: v.optional(v.string("must be a version of TLS")),
      verify_incoming: flag,
    },
    "must be an object",
  ),
);
const Tls = v.looseObject({ defaults: stanza, https: stanza }, 'must be an object or "self"');

export const File = v.looseObject({
  datacenter: v.optional(text("a name")),
  primary_datacenter: v.optional(text("a name")),
  // Not keys of Consul: the servers of other datacenters, in the form of MESHCA_DATACENTERS.
  primary_servers: v.optional(
    v.union([v.array(text("a URL")), text("a URL")], "must be a list of URLs"),
  ),
  primary_ca_file: v.optional(text("a file")),
  primary_ca_pin: v.optional(text("the SHA-256 of a root")),
  datacenters: anyObject,
  data_dir: v.optional(text("a folder")),
  log_level: v.optional(text("a level")),
  client_addr: v.optional(text("an address")),
  // Not a key of Consul: the store, in the form of MESHCA_STORE.
  store: v.optional(text("the URL of a store")),
  ports: object(Ports),
  // "self" is not a value of Consul: a certificate of our own CA.
  tls: v.optional(v.lazy((value) => (value === "self" ? v.literal("self") : object(Tls)))),
  connect: object(Connect),
  acl: object(Acl),
  limits: anyObject,
});
export type FileKeys = v.InferOutput<typeof File>;
