/**
 * Which server `meshca recover` calls, and by what it is verified: the body carries the key of the CA,
 * so that a server is never called without verification.
 * @module
 */

import { errorCode } from "../../config/file-errors.ts";
import { isLoopback } from "../../net/server-address.ts";
import {
  cannotRead,
  type Files,
  readServerOptions,
  type ServerOptions,
} from "../connection/address.ts";
import type { Environment, Flags } from "../flags.ts";
import { EXIT, Failure } from "../output.ts";

/** The data folder of `meshca serve` without a setting. */
const DEFAULT_FOLDER = ".meshca";
/** The file in it with the fingerprint of the server's certificate. */
const FINGERPRINT_FILE = "tls-fingerprint";

export interface RecoveredServer {
  readonly options: ServerOptions;
  /** How the server is verified, after a comma: `verified by the fingerprint in FILE`. */
  readonly verification: string;
}

/**
 * Reads flags and environment as every command does. If they name nothing that verifies the server,
 * the fingerprint in the data folder on this machine is its pin.
 * @throws {Failure} if the server would not be verified, or the key would be sent without TLS
 */
export function readServer(flags: Flags, environment: Environment, files: Files): RecoveredServer {
  const options = readServerOptions(flags, environment, files);
  const { url, socketPath, pin, anchorsPem, verify, name } = options;
  if (socketPath !== null) return { options, verification: "a socket on this machine" };
  if (url.protocol === "http:") {
    if (!isLoopback(url))
      throw new Failure(
        EXIT.usage,
        `The key of the CA is not sent to ${name} without TLS; give its https:// address, or run this command on the machine of the server`,
      );
    return { options, verification: "on this machine, without TLS" };
  }
  if (pin !== null) return { options, verification: `verified by the pin sha256:${pin}` };
  if (anchorsPem !== null) return { options, verification: "verified by the CA file" };
  const found = storedPin(flags, environment, files, isLoopback(url));
  if (found !== null)
    return {
      options: { ...options, pin: found.pin },
      verification: `verified by the fingerprint in ${found.path}`,
    };
  if (!verify)
    throw new Failure(
      EXIT.usage,
      "The key of the CA is not sent to a server that is not verified (HTTP_SSL_VERIFY=false); give --server-pin with the fingerprint in the server's log, or --data-dir on the machine of the server",
    );
  return { options, verification: "verified by the CAs that this machine trusts" };
}

/**
 * The pin in the data folder; null if no folder is named and the server is on another machine, or if
 * the folder that is used without a name has none.
 */
function storedPin(
  flags: Flags,
  environment: Environment,
  files: Files,
  isHere: boolean,
): { readonly pin: string; readonly path: string } | null {
  const named = flags.text("data-dir") ?? (environment.MESHCA_DATA_DIR || null);
  if (named === null && !isHere) return null;
  const path = `${named ?? DEFAULT_FOLDER}/${FINGERPRINT_FILE}`;
  let text: string;
  try {
    text = files.readText(path);
  } catch (error) {
    if (named === null && errorCode(error) === "ENOENT") return null;
    throw cannotRead("The fingerprint of the server's TLS certificate", path, error);
  }
  const pin = /^sha256:([0-9a-f]{64})\n?$/.exec(text)?.[1];
  if (pin !== undefined) return { pin, path };
  throw new Failure(
    EXIT.data,
    `The file ${JSON.stringify(path)} has no fingerprint; give --server-pin with the one in the server's log`,
  );
}
