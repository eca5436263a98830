/**
 * The flags of every command that calls a server, and the variables that stand for them.
 * @module
 */
import type { SharedClientVariable } from "../../config/client-variables.ts";
import type { Flag } from "../flags.ts";

/** Where Consul's command line looks, and meshca listens by default. */
export const DEFAULT_ADDRESS = "http://127.0.0.1:8500";

/** The variables of a name, those that count first. */
export const variablesOf = (name: SharedClientVariable): readonly string[] => [
  `MESHCA_${name}`,
  `CONSUL_${name}`,
];

/** The flags of every command that calls a server. */
export const CONNECTION_FLAGS: readonly Flag[] = [
  {
    ...{ name: "http-addr", value: "ADDRESS", variables: variablesOf("HTTP_ADDR") },
    help: `server: URL, HOST:PORT or unix:///PATH (${DEFAULT_ADDRESS})`,
  },
  {
    ...{ name: "token", value: "TOKEN", variables: variablesOf("HTTP_TOKEN") },
    help: "ACL token; other users of this machine can see it: rather use --token-file",
  },
  {
    ...{ name: "token-file", value: "FILE", variables: variablesOf("HTTP_TOKEN_FILE"), file: true },
    help: "file with the ACL token",
  },
  {
    ...{ name: "ca-file", value: "FILE", variables: variablesOf("CACERT"), file: true },
    help: "certificates in PEM that verify the server",
  },
  {
    ...{ name: "ca-path", value: "FOLDER", variables: variablesOf("CAPATH"), file: true },
    help: "folder with certificates in PEM that verify the server",
  },
  {
    ...{ name: "client-cert", value: "FILE", variables: variablesOf("CLIENT_CERT"), file: true },
    help: "client certificate in PEM, with its chain",
  },
  {
    ...{ name: "client-key", value: "FILE", variables: variablesOf("CLIENT_KEY"), file: true },
    help: "private key of the client certificate",
  },
  {
    ...{ name: "tls-server-name", value: "NAME", variables: variablesOf("TLS_SERVER_NAME") },
    help: "name that the server's certificate must have (the host of the address)",
  },
  {
    ...{ name: "server-pin", value: "PIN", variables: ["MESHCA_SERVER_PIN"] },
    help: "sha256:HEX of the server's certificate, also if it has expired, or of its root",
  },
  {
    name: "datacenter",
    value: "NAME",
    help: "datacenter to ask, through the server (the server's)",
  },
  { name: "stale", value: null, help: "accept an answer of any replica, as every one is" },
];

/** Of Consul Enterprise, for commands of access control: the server refuses them. */
export const ENTERPRISE_FLAGS: readonly Flag[] = ["namespace", "partition"].map((name) => ({
  ...{ name, value: "NAME", help: "of Consul Enterprise", hidden: true },
}));
