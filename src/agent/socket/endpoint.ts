/**
 * Where a socket of workloads listens: a path, or a loopback address if that is asked for.
 * @module
 */
import { Buffer } from "node:buffer";
import { isAbsolute } from "node:path";
import { hostPort, isLoopback } from "../../config/addresses.ts";
import { ConfigError } from "../../core/errors.ts";

export type Endpoint =
  | { readonly path: string }
  | {
      readonly host: string;
      /** 0 for a free one. */
      readonly port: number;
    };

/** Octets of a path in sockaddr_un, whose 108 have a NUL at the end (unix(7), "Address format"). */
export const MAX_PATH_BYTES = 107;

/**
 * Reads an absolute path, or `tcp://ADDRESS:PORT` with a loopback address.
 * @throws {ConfigError} if nothing can be served there, or not without giving keys away.
 */
export function readEndpoint(text: string): Endpoint {
  return text.startsWith("tcp://") ? readAddress(text) : { path: readPath(text) };
}

function readAddress(text: string): Endpoint {
  const subject = `Cannot serve workloads on ${JSON.stringify(text)}`;
  const [, six, other, digits] = /^tcp:\/\/(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = six ?? other ?? "";
  const port = Number(digits);
  if (host === "" || port > 65_535)
    throw new ConfigError(`${subject}: the form must be tcp://ADDRESS:PORT`);
  if (!isLoopback(host))
    throw new ConfigError(
      `${subject}: only a loopback address such as 127.0.0.1 or [::1] is allowed, since every caller gets the private keys`,
    );
  return { host, port };
}

function readPath(path: string): string {
  const subject = `Cannot serve the socket ${JSON.stringify(path)}`;
  if (!isAbsolute(path)) throw new ConfigError(`${subject}: the path must be absolute`);
  if (/\p{Cc}/u.test(path)) throw new ConfigError(`${subject}: the path has a control character`);
  if (/\/(\.\.?)?$/.test(path))
    throw new ConfigError(`${subject}: the path must name a file in a folder`);
  const length = Buffer.byteLength(path);
  if (length > MAX_PATH_BYTES)
    throw new ConfigError(
      `${subject}: the path has ${length} octets, and that of a Unix socket may have ${MAX_PATH_BYTES}; choose a shorter one, for example below /run`,
    );
  return path;
}

/** The value of SPIFFE_ENDPOINT_SOCKET for an endpoint (SPIFFE Workload Endpoint, section 4). */
export function endpointUri(endpoint: Endpoint): string {
  return "path" in endpoint
    ? `unix://${endpoint.path}`
    : `tcp://${hostPort(endpoint.host, endpoint.port)}`;
}
