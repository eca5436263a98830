/**
 * Access control as the edges have it: who calls, what an operator does to tokens and the rest, and logins. Where access
 * control is off there is none of it.
 * @module
 */
import type { Administration, NewToken } from "./administration.ts";
import type { AuditDetail } from "./audit.ts";
import type { Authorizer } from "./authorizer.ts";

/**
 * Awaited before something is written, when it is known what: where it throws, nothing is.
 * @param subject the names of the records, `kind/id`. @param detail what else the audit log says of them.
 */
export type BeforeChange = (subject: string, detail?: AuditDetail) => Promise<void>;

export interface AccessControl extends Authorizer {
  readonly administration: Administration;
  /** The same administration, each of whose writes awaits `before`. */
  administrationFor(before: BeforeChange): Administration;
  /** A token for whoever a login token names. @throws {DeniedError} @throws {RequestError} @throws {ProviderError} */
  login(request: LoginRequest, before?: BeforeChange): Promise<NewToken>;
  /** Ends the token that a login made. @throws {DeniedError} for any other */
  logout(secret: string | null, before?: BeforeChange): Promise<void>;
  /** The id of the key-encryption key that its own key is sealed with, or null before it is loaded. */
  readonly kek: string | null;
  /** Seals its own key anew with the current key-encryption key. @returns whether anything changed. @throws {CaError} */
  rewrap(before?: BeforeChange): Promise<boolean>;
}

export interface LoginRequest {
  readonly authMethod: string;
  /** The login token. */
  readonly bearerToken: string;
  /** Shown in the token's description. */
  readonly meta: Readonly<Record<string, string>>;
}
