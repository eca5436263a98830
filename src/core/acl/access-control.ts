/**
 * Access control as the edges have it: who calls, what an operator does to tokens and the rest, and
 * logins. Where access control is off there is none of it.
 * @module
 */

import type { AuditDetail } from "../ports/audit.ts";
import type { Administration, NewToken } from "./admin.ts";
import type { Authorizer } from "./authorizer.ts";

/**
 * Awaited before something is written, when it is known what: where it throws, nothing is.
 * @param subject the names of the records, `kind/id`. @param detail what else the audit log says of
 * them.
 */
export type BeforeChange = (subject: string, detail?: AuditDetail) => Promise<void>;

/** How the set of all records stands. */
export interface AccessState {
  /** Whether there is one that can be trusted. Without it nothing is authorized. */
  readonly loaded: boolean;
  /** Why it cannot be changed until an operator decides, or null. */
  readonly stopped: string | null;
  /** The index of the last write that is in force. */
  readonly index: number;
}

/** One of two sets between which an operator has to decide. */
export interface AccessSide {
  readonly index: number;
  readonly tip: string;
  /** Whether its set document is about these records. */
  readonly authentic: boolean;
  /** How many records are not ours. */
  readonly faulty: number;
  /** How many there are, by kind. */
  readonly records: Readonly<Record<string, number>>;
}

export interface AccessConflict {
  readonly reason: string;
  /** The replica that stopped changes, and when; null if none did. */
  readonly by: string | null;
  readonly at: Date | null;
  /** What this replica has in force, or null. */
  readonly snapshot: AccessSide | null;
  /** Null if what is stored cannot be read. */
  readonly stored: AccessSide | null;
  /** Names of records, `kind/id`. */
  readonly differences: readonly string[];
}

/**
 * What is kept: what this replica has in force; what is stored, as far as it is ours; or, if no
 * replica has a set in force, nothing, so that access control begins anew.
 */
export type KeptAccess = "snapshot" | "stored" | "nothing";

export interface AccessControl extends Authorizer {
  readonly administration: Administration;
  /** The same administration, each of whose writes awaits `before`. */
  administrationFor(before: BeforeChange): Administration;
  /**
   * A token for whoever a login token names.
   * @throws {DeniedError}
   * @throws {RequestError}
   * @throws {ProviderError}
   */
  login(request: LoginRequest, before?: BeforeChange): Promise<NewToken>;
  /** Ends the token that a login made. @throws {DeniedError} for any other */
  logout(secret: string | null, before?: BeforeChange): Promise<void>;
  readonly state: AccessState;
  /** What an operator has to decide, or null. @throws {StoreError} */
  conflict(): Promise<AccessConflict | null>;
  /** Decides it. @throws {ConflictError} `no_conflict` @throws {CaError} */
  resolve(keep: KeptAccess, before?: BeforeChange): Promise<void>;
  /**
   * The id of the key-encryption key that its own key is sealed with, or null before it is loaded.
   */
  readonly kek: string | null;
  /**
   * Seals its own key anew with the current key-encryption key.
   * @returns whether anything changed.
   * @throws {CaError}
   */
  rewrap(before?: BeforeChange): Promise<boolean>;
}

export interface LoginRequest {
  readonly authMethod: string;
  /** The login token. */
  readonly bearerToken: string;
  /** Shown in the token's description. */
  readonly meta: Readonly<Record<string, string>>;
}
