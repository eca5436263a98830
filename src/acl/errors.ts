/**
 * Errors that several files of this folder throw.
 * @module
 */
import { DeniedError, RequestError } from "../core/errors.ts";

/** A request whose content is refused. */
export function malformed(message: string): RequestError {
  return new RequestError("request_malformed", message);
}

/** A request for a record that does not exist. @param what `token`, `policy`. */
export function notFound(what: string, name: string): RequestError {
  return new RequestError("not_found", `Cannot find ${what} ${JSON.stringify(name)}`);
}

/** A secret of no token. Consul's text (acl/errors.go). */
export function unknownToken(): DeniedError {
  return new DeniedError("token_unknown", "ACL not found");
}

/** A login token that is refused. @param what of it, `has expired`; nothing that is in the token. */
export function loginDenied(what: string): DeniedError {
  return new DeniedError("permission_denied", `Permission denied: login token ${what}`);
}
