/**
 * Which server a command calls, and how: flags first, then MESHCA_* variables, then CONSUL_* ones.
 * @module
 */
import type { SharedClientVariable } from "../../config/client-variables.ts";
import { errorCode, fileReason } from "../../config/file-errors.ts";
import type { Environment, Flags } from "../flags.ts";
import { EXIT, Failure } from "../output.ts";
import { CONNECTION_FLAGS, DEFAULT_ADDRESS, variablesOf } from "./connection-flags.ts";

/** How a command reads files. */
export interface Files {
  /** Text in UTF-8. */
  readText(path: string): string;
  /** Certificates in PEM. @throws {Failure} if the file has no certificate */
  readCertificates(path: string): string;
  /** A client certificate and its key in PEM. @throws {Failure} if TLS cannot be spoken with them */
  readKeyPair(certPath: string, keyPath: string): { readonly cert: string; readonly key: string };
  /** The names in a folder. */
  list(path: string): readonly string[];
}

export interface ServerOptions {
  /** For errors: as it was given. */
  readonly name: string;
  /** With scheme http or https; of a Unix socket its host is localhost. */
  readonly url: URL;
  /** Of a Unix socket, or null. */
  readonly socketPath: string | null;
  readonly token: string | null;
  /** Certificates in PEM; null: those that the runtime trusts. */
  readonly anchorsPem: string | null;
  /** In PEM, or null. */
  readonly client: { readonly cert: string; readonly key: string } | null;
  readonly serverName: string | null;
  /** HEX of a SHA-256, or null. */
  readonly pin: string | null;
  /** False: nothing is verified (CONSUL_HTTP_SSL_VERIFY=false). */
  readonly verify: boolean;
  readonly datacenter: string | null;
  readonly stale: boolean;
  readonly namespace: string | null;
  readonly partition: string | null;
}

/** The URL of a request: the server's, the path and the parameters. */
export function urlOf(
  { url, datacenter, stale, namespace, partition }: ServerOptions,
  {
    path,
    query = {},
  }: { readonly path: string; readonly query?: Readonly<Record<string, string | null>> },
): URL {
  const found = new URL(url.href.replace(/\/+$/, "") + path);
  const add = (name: string, value: string | null) => {
    if (value !== null) found.searchParams.set(name, value);
  };
  add("dc", datacenter);
  add("ns", namespace);
  add("partition", partition);
  if (stale) add("stale", "");
  for (const [name, value] of Object.entries(query)) add(name, value);
  return found;
}

/**
 * An empty flag counts as absent, as in Consul: `-http-addr=$ADDRESS` without the variable.
 * @param other the address of a server, or null for that of flags and environment
 * @throws {Failure} if an option is malformed, or a file cannot be read
 */
export function readServerOptions(
  flags: Flags,
  environment: Environment,
  files: Files,
  other: string | null = null,
): ServerOptions {
  const given = (name: string): string | null => {
    const flag = CONNECTION_FLAGS.find((candidate) => candidate.name === name);
    return flags.text(name) || firstOf(flag?.variables ?? [], environment);
  };
  const ssl = readSwitch("HTTP_SSL", environment) ?? false;
  const address = other ?? given("http-addr") ?? DEFAULT_ADDRESS;
  const caFile = given("ca-file");
  const caPath = given("ca-path");
  const pin = readPin(given("server-pin"));
  const server = readAddress(address, ssl);
  if (pin !== null && server.socketPath === null && server.url.protocol === "http:")
    throw new Failure(
      EXIT.usage,
      `--server-pin needs an address with https://, since ${server.name} shows no certificate`,
    );
  return {
    ...server,
    token: readToken(flags, environment, files),
    anchorsPem:
      caFile !== null
        ? files.readCertificates(caFile)
        : caPath !== null
          ? readFolder(caPath, files)
          : null,
    client: readClient(given("client-cert"), given("client-key"), files),
    serverName: given("tls-server-name"),
    pin,
    verify: readSwitch("HTTP_SSL_VERIFY", environment) ?? true,
    datacenter: flags.text("datacenter") || null,
    stale: flags.on("stale"),
    namespace: (flags.has("namespace") && flags.text("namespace")) || null,
    partition: (flags.has("partition") && flags.text("partition")) || null,
  };
}

function firstOf(names: readonly string[], environment: Environment): string | null {
  for (const name of names) {
    const value = environment[name];
    if (value !== undefined && value !== "") return value;
  }
  return null;
}

/** @throws {Failure} */
function readSwitch(name: SharedClientVariable, environment: Environment): boolean | null {
  for (const variable of variablesOf(name)) {
    const value = environment[variable];
    if (value === undefined || value === "") continue;
    if (/^(?:1|t|true)$/i.test(value)) return true;
    if (/^(?:0|f|false)$/i.test(value)) return false;
    throw new Failure(EXIT.config, `${variable} must be true or false`);
  }
  return null;
}

/** @throws {Failure} */
function readAddress(
  address: string,
  ssl: boolean,
): Pick<ServerOptions, "name" | "url" | "socketPath"> {
  const path = /^unix:\/\/(.+)$/s.exec(address)?.[1];
  if (path !== undefined)
    return { name: address, url: new URL("http://localhost"), socketPath: path };
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(address)
    ? address
    : `${ssl ? "https" : "http"}://${address}`;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (
    url === null ||
    (url.protocol !== "http:" && url.protocol !== "https:") ||
    url.hostname === ""
  )
    throw new Failure(
      EXIT.usage,
      `The address ${JSON.stringify(withoutUser(address))} must be a URL such as https://ca.example:8501, HOST:PORT or unix:///PATH`,
    );
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw new Failure(
      EXIT.usage,
      `The address ${JSON.stringify(`${url.protocol}//${url.host}`)} must not have a user, a query or a fragment`,
    );
  return { name: text.replace(/\/+$/, ""), url, socketPath: null };
}

/** An address that cannot be parsed may have a password. */
const withoutUser = (address: string): string => address.replace(/[^/]*@/, "");

/**
 * The nearest source wins: flags, then MESHCA_*, then CONSUL_*; of one kind the file.
 * @throws {Failure}
 */
function readToken(flags: Flags, environment: Environment, files: Files): string | null {
  const variables = (prefix: string): Pair => [
    environment[`${prefix}_HTTP_TOKEN_FILE`] ?? "",
    environment[`${prefix}_HTTP_TOKEN`] ?? "",
  ];
  const sources: readonly Pair[] = [
    [flags.text("token-file") ?? "", flags.text("token") ?? ""],
    variables("MESHCA"),
    variables("CONSUL"),
  ];
  for (const [file, text] of sources) {
    const token = file === "" ? text : readFile("The token file", file, files).trim();
    if (file !== "" && token === "")
      throw new Failure(EXIT.data, `The token file ${JSON.stringify(file)} is empty`);
    if (token === "") continue;
    if (!/^[\x21-\x7e]{1,4096}$/.test(token))
      throw new Failure(
        EXIT.data,
        `The token${file === "" ? "" : ` in the file ${JSON.stringify(file)}`} has characters that no token has`,
      );
    return token;
  }
  return null;
}

type Pair = readonly [file: string, text: string];

/** @throws {Failure} */
function readClient(
  certPath: string | null,
  keyPath: string | null,
  files: Files,
): ServerOptions["client"] {
  if (certPath === null && keyPath === null) return null;
  if (certPath === null || keyPath === null)
    throw new Failure(
      EXIT.usage,
      `--client-${certPath === null ? "key" : "cert"} needs --client-${certPath === null ? "cert" : "key"} too`,
    );
  return files.readKeyPair(certPath, keyPath);
}

/** @throws {Failure} */
function readPin(text: string | null): string | null {
  if (text === null) return null;
  // openssl writes a fingerprint with colons.
  const digits = text.replace(/^sha256:/i, "").replaceAll(":", "");
  const hex = /^[0-9a-f]{64}$/i.exec(digits)?.[0];
  if (hex === undefined)
    throw new Failure(EXIT.usage, "--server-pin must be sha256: and 64 hexadecimal digits");
  return hex.toLowerCase();
}

/** @throws {Failure} */
function readFolder(path: string, files: Files): string {
  let names: readonly string[];
  try {
    names = files.list(path);
  } catch (error) {
    throw cannotRead("The CA folder", path, error);
  }
  const found = names
    .filter((name) => !name.startsWith("."))
    .toSorted((a, b) => (a < b ? -1 : 1))
    .map((name) => readFile("The CA file", `${path}/${name}`, files));
  if (found.length === 0)
    throw new Failure(EXIT.noInput, `The CA folder ${JSON.stringify(path)} has no file`);
  return found.join("\n");
}

/** @throws {Failure} with the file's name and the reason */
function readFile(what: string, path: string, files: Files): string {
  try {
    return files.readText(path);
  } catch (error) {
    throw cannotRead(what, path, error);
  }
}

/** That a file cannot be read, and why. */
export function cannotRead(what: string, path: string, error: unknown): Failure {
  const code = errorCode(error);
  const reason = fileReason(error) ?? (error instanceof Error ? error.message : "unknown");
  return new Failure(
    code === "EACCES" || code === "EPERM" ? EXIT.permission : EXIT.noInput,
    `${what} ${JSON.stringify(path)} cannot be read: ${reason}`,
    error,
  );
}
