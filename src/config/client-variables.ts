/**
 * The environment variables of the commands that call a server. The server and the agent ignore
 * them.
 * @module
 */

/** Without MESHCA_ or CONSUL_ before them. */
export const SHARED_CLIENT_VARIABLES = [
  "HTTP_ADDR",
  "HTTP_TOKEN",
  "HTTP_TOKEN_FILE",
  "HTTP_SSL",
  "HTTP_SSL_VERIFY",
  "CACERT",
  "CAPATH",
  "CLIENT_CERT",
  "CLIENT_KEY",
  "TLS_SERVER_NAME",
] as const;

export type SharedClientVariable = (typeof SHARED_CLIENT_VARIABLES)[number];

/** Every variable of the command line, ours first. */
export const CLIENT_VARIABLES: readonly string[] = [
  ...SHARED_CLIENT_VARIABLES.flatMap((name) => [`MESHCA_${name}`, `CONSUL_${name}`]),
  "MESHCA_SERVER_PIN",
];
