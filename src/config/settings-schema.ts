/**
 * The schema of all settings, each with its default and what it means.
 * @module
 */
import * as v from "valibot";
import {
  advertisedAddress,
  egressAllowlist,
  headerHosts,
  listenAddress,
  urlHosts,
} from "./addresses.ts";
import { LIMIT_ENTRIES } from "./limits.ts";
import { TLS_ENTRIES } from "./tls.ts";
import { duration, fileName, parsed, rootPin, wholeNumber } from "./values.ts";

/** Kubernetes mounts the token of a pod's service account here. */
const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

const importSource = parsed((text) => {
  const [, kind, path] = /^(sqlite|backup):(.+)$/.exec(text) ?? [];
  return path === undefined ? null : { kind: kind as "sqlite" | "backup", path };
}, "must be sqlite:PATH or backup:PATH");

/** At least 16 characters, so that it cannot be guessed; at most 128, as every token. */
export const managementToken = v.pipe(
  v.string(),
  v.regex(/^[\x21-\x7e]{16,128}$/, "must be 16 to 128 printable characters without blanks"),
);

/** A token of another server, which may be shorter than one of ours; at most 128, as every token. */
export const replicationToken = v.pipe(
  v.string(),
  v.regex(/^[\x21-\x7e]{1,128}$/, "must be 1 to 128 printable characters without blanks"),
);

const folders = v.pipe(
  v.string(),
  v.transform((text) =>
    text
      .split(",")
      .map((folder) => folder.trim())
      .filter((folder) => folder !== ""),
  ),
  v.everyItem(
    (folder) =>
      /^\/+[^/]/.test(folder) && !folder.split("/").some((part) => part === "." || part === ".."),
    "must be absolute paths of folders (/etc/meshca/secrets), without . and .., separated by commas",
  ),
  v.everyItem(
    (folder) => !/^\/+(proc|sys|dev)(\/|$)/.test(folder),
    "must not include folders below /proc, /sys and /dev: no file of the kernel is read",
  ),
);

const LEVELS = {
  debug: "debug",
  info: "info",
  warn: "warning",
  warning: "warning",
  error: "error",
} as const;
export const logLevel = v.pipe(
  v.string("must be a level"),
  v.toLowerCase(),
  v.picklist(
    Object.keys(LEVELS) as (keyof typeof LEVELS)[],
    `must be one of ${Object.keys(LEVELS).join(", ")}`,
  ),
  v.transform((name) => LEVELS[name]),
);

const auditTarget = v.pipe(
  v.string(),
  v.transform((value) =>
    value === "off"
      ? null
      : value === "stdout"
        ? ({ kind: "stdout" } as const)
        : ({ kind: "file", path: value } as const),
  ),
);
const AUDIT_FAILURES = ["stop-changes", "stop-all", "go-on"] as const;

/** Consul's rule for the name of a datacenter. */
export const datacenter = v.pipe(
  v.string("must be a name"),
  v.toLowerCase(),
  v.regex(/^[a-z0-9_-]{1,64}$/, "must be 1 to 64 letters, digits, - and _"),
);

export const Schema = v.object({
  MESHCA_LISTEN: v.optional(listenAddress, "127.0.0.1:8500"),
  /** The address of this replica, as others know it. @default `ownAddress` */
  MESHCA_ADVERTISE: v.optional(advertisedAddress),
  ...TLS_ENTRIES,
  MESHCA_DATA_DIR: v.optional(v.pipe(v.string(), v.nonEmpty("must name a folder")), ".meshca"),
  MESHCA_CONFIG: v.optional(fileName),
  /** Read by `readStoreUrl`. @default SQLite in the data folder */
  MESHCA_STORE: v.optional(v.string()),
  /** A file with the value of MESHCA_STORE. */
  MESHCA_STORE_FILE: v.optional(fileName),
  /** Key-encryption keys. @default one in the data folder */
  MESHCA_KEK: v.optional(v.string()),
  MESHCA_KEK_FILE: v.optional(fileName),
  /** The configuration of the Vault Transit key that wraps key-encryption keys. */
  MESHCA_KEK_VAULT: v.optional(fileName),
  /** The hosts that a Vault provider may connect to, besides public addresses. */
  MESHCA_VAULT_ALLOW: v.optional(egressAllowlist, ""),
  /** The folders whose files a provider's configuration may name. */
  MESHCA_SECRET_DIRS: v.optional(folders, SERVICE_ACCOUNT),
  /** The default policy of access control, or off. @default off on loopback, else deny */
  MESHCA_ACL: v.optional(v.picklist(["off", "allow", "deny"], "must be off, allow or deny")),
  MESHCA_INITIAL_MANAGEMENT_TOKEN: v.optional(managementToken),
  MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE: v.optional(fileName),
  /** The hosts that auth methods may fetch keys from. */
  MESHCA_JWKS_HOSTS: v.optional(urlHosts, ""),
  /** Those of them with private addresses. */
  MESHCA_JWKS_PRIVATE_HOSTS: v.optional(urlHosts, ""),
  /** The CA that an empty store starts with. @default a new one */
  MESHCA_IMPORT: v.optional(importSource),
  /**
   * How long leaves are signed while Redis does not answer. At most a day: after that they could not
   * be told from leaves of a replica that was cut off.
   */
  MESHCA_MAX_STALENESS: v.optional(
    duration(1000, 86_400_000, "from 1s to 24h, for example 5m"),
    "5m",
  ),
  /** The largest difference between the clocks of this replica and of Redis. */
  MESHCA_MAX_CLOCK_SKEW: v.optional(
    duration(1000, 3_600_000, "from 1s to 1h, for example 30s"),
    "30s",
  ),
  /**
   * The most certificates of a leaf with its chain, without the root. At least a leaf, its issuer
   * and one cross-signed certificate; at most what a renewal token may have.
   */
  MESHCA_MAX_CHAIN_LENGTH: v.optional(wholeNumber(3, 32, 2), "7"),
  MESHCA_DATACENTER: v.optional(datacenter, "dc1"),
  /** The datacenter whose root is the trust of all. @default this one */
  MESHCA_PRIMARY_DATACENTER: v.optional(datacenter),
  /** URLs of its servers, read with the next ones by `readDatacenters`. */
  MESHCA_PRIMARY_SERVERS: v.optional(v.string()),
  MESHCA_PRIMARY_CA_FILE: v.optional(fileName),
  MESHCA_PRIMARY_CA_PIN: v.optional(rootPin),
  /** The token of this datacenter in the primary. */
  MESHCA_REPLICATION_TOKEN: v.optional(replicationToken),
  MESHCA_REPLICATION_TOKEN_FILE: v.optional(fileName),
  /** The servers of other datacenters, as JSON. */
  MESHCA_DATACENTERS: v.optional(v.string()),
  MESHCA_LOG_LEVEL: v.optional(logLevel, "info"),
  /** The names that a Host header may have. @default any; on loopback its own names */
  MESHCA_HOSTS: v.optional(headerHosts),
  MESHCA_AUDIT: v.optional(auditTarget, "off"),
  /** What stops while the audit log cannot be written. */
  MESHCA_AUDIT_FAILURE: v.optional(
    v.picklist(AUDIT_FAILURES, `must be one of ${AUDIT_FAILURES.join(", ")}`),
    "stop-changes",
  ),
  ...LIMIT_ENTRIES,
});

/** The environment variables of all settings; docs/configuration.md has each. */
export const SETTING_NAMES: readonly string[] = Object.keys(Schema.entries);
