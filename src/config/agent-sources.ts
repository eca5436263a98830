/**
 * Where each setting of the agent can be given: a key of the configuration file, an environment
 * variable and a flag.
 * @module
 */

/** A setting that a flag or a variable can give. */
export interface AgentSource {
  /** Its key in the configuration file, with a dot for each level; of the one identity its own key. */
  readonly key: string;
  /** Without the leading dashes; null if no flag gives it. */
  readonly flag: string | null;
  /** What the flag's value is, for the help. */
  readonly value: string;
  readonly help: string;
  /** The flag may be repeated; the variable is a list with commas or blanks. */
  readonly many?: true;
  /** It describes the one identity that flags are enough for. */
  readonly identity?: true;
}

/** Every setting that a flag or a variable can give, in the order of the help. */
export const AGENT_SOURCES: readonly AgentSource[] = [
  {
    ...{ key: "servers", flag: "server", value: "URL", many: true },
    help: "server of the CA; repeat it for failover (http://127.0.0.1:8500)",
  },
  {
    ...{ key: "ca_file", flag: "ca-file", value: "FILE" },
    help: "certificates in PEM that verify the server",
  },
  {
    ...{ key: "ca_pin", flag: "ca-pin", value: "SHA256" },
    help: "SHA-256 of a root of the mesh, for the first contact without --ca-file",
  },
  {
    ...{ key: "datacenter", flag: "datacenter", value: "NAME" },
    help: "datacenter of the identities (the server's)",
  },
  { key: "token", flag: null, value: "TOKEN", help: "token for the server" },
  {
    ...{ key: "token_file", flag: "token-file", value: "FILE" },
    help: "file with the token for the server, read again when it changes",
  },
  {
    ...{ key: "login.auth_method", flag: "login-auth-method", value: "NAME" },
    help: "auth method to log in with",
  },
  {
    ...{ key: "login.token_file", flag: "login-token-file", value: "FILE" },
    help: "file with the JWT for the login",
  },
  {
    ...{ key: "service", flag: "service", value: "NAME", identity: true },
    help: "service of the identity (that of the token)",
  },
  {
    ...{ key: "dns_names", flag: "dns-name", value: "NAME", many: true, identity: true },
    help: "DNS name of the certificate; may be repeated",
  },
  {
    ...{ key: "ip_addresses", flag: "ip-address", value: "IP", many: true, identity: true },
    help: "IP address of the certificate; may be repeated",
  },
  {
    ...{ key: "ttl", flag: "ttl", value: "DURATION", identity: true },
    help: "lifetime of the certificate, for example 1h (LeafCertTTL)",
  },
  {
    ...{ key: "socket", flag: "socket", value: "PATH", identity: true },
    help: "Unix socket with the SPIFFE Workload API and Envoy's SDS",
  },
  {
    ...{ key: "dir", flag: "dir", value: "PATH", identity: true },
    help: "folder for the certificate, its key and the roots",
  },
  {
    ...{ key: "on_change", flag: "on-change", value: "COMMAND", identity: true },
    help: "command after the folder changed; split at blanks, run without a shell",
  },
  {
    ...{ key: "listen", flag: "listen", value: "ADDRESS" },
    help: "127.0.0.1:PORT or unix:PATH: Consul's agent API, SDS by REST, /readyz",
  },
  {
    ...{ key: "default_intention_policy", flag: "default-intention-policy", value: "POLICY" },
    help: "allow or deny: what authorize answers for a caller of the mesh",
  },
  {
    ...{ key: "cache_dir", flag: "cache-dir", value: "PATH" },
    help: "folder that keeps roots, certificates and keys over a restart",
  },
  {
    ...{ key: "log_level", flag: "log-level", value: "LEVEL" },
    help: "debug, info, warn or error (info)",
  },
  {
    ...{ key: "once_timeout", flag: "once-timeout", value: "DURATION" },
    help: "how long --once waits (60s)",
  },
];

/** The flag of the configuration file, and its variable. */
export const CONFIG_FLAG = "config";
export const CONFIG_VARIABLE = "MESHCA_AGENT_CONFIG";

/** The environment variable of a key. */
export const agentVariable = (key: string): string =>
  `MESHCA_AGENT_${key.replaceAll(".", "_").toUpperCase()}`;

/** Every environment variable of the agent; docs/workloads.md has each. */
export const AGENT_SETTING_NAMES: readonly string[] = [
  CONFIG_VARIABLE,
  ...AGENT_SOURCES.map(({ key }) => agentVariable(key)),
];
