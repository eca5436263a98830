/**
 * The ACL system as the edges use it: authorization, administration, logins, and what an operator
 * decides when the stored ACL is refused. Absent if ACLs are off.
 * @module
 */

import type { AuditDetail } from "../ports/audit.ts";
import type { AclAdmin, LeafSubject, NewToken } from "./admin.ts";
import type { Authorizer } from "./authorizer.ts";
import type { DenylistEntry } from "./types.ts";

/**
 * Awaited before a change is written. Nothing is written if it throws.
 * @param subject the names of the records, `kind/id`.
 * @param detail further fields for the audit log.
 */
export type BeforeChange = (subject: string, detail?: AuditDetail) => Promise<void>;

export interface AclState {
  /** Whether this replica has records that it trusts. Without them nothing is authorized. */
  readonly loaded: boolean;
  /** Why nothing can be changed until an operator decides, or null. */
  readonly stopped: string | null;
  /** The index of the last write that is in force. */
  readonly index: number;
}

/** One of the two sets of records between which an operator has to decide. */
export interface AclSetSummary {
  readonly index: number;
  readonly tip: string;
  /** Whether the MAC over all records is valid. */
  readonly authentic: boolean;
  /** How many records have an invalid MAC. */
  readonly faulty: number;
  /** How many records there are, by kind. */
  readonly records: Readonly<Record<string, number>>;
}

export interface AclConflict {
  readonly reason: string;
  /** The replica that stopped changes, and when; null if none did. */
  readonly by: string | null;
  readonly at: Date | null;
  /** The set that this replica has in force, or null. */
  readonly snapshot: AclSetSummary | null;
  /** The stored set; null if it cannot be read. */
  readonly stored: AclSetSummary | null;
  /** Names of the records that differ, `kind/id`. */
  readonly differences: readonly string[];
}

/**
 * What an operator keeps: the set that this replica has in force; the stored records with a valid
 * MAC; or, if no replica has a set in force, nothing, so that the ACL starts empty.
 */
export type AclResolution = "snapshot" | "stored" | "nothing";

export interface Acl extends Authorizer {
  readonly admin: AclAdmin;
  /** The same administration, each of whose writes awaits `before`. */
  adminFor(before: BeforeChange): AclAdmin;
  /**
   * The denylist entry by which no leaf may be signed for a subject, or null. Costs one look-up for
   * each segment of the SPIFFE ID and, if keys are on the denylist, three digests for each key.
   * @throws {NotReadyError} `state_stale` if no denylist is known
   */
  denylistEntryOf(subject: LeafSubject): DenylistEntry | null;
  /**
   * Exchanges the token of an auth method's issuer for an ACL token.
   * @throws {DeniedError}
   * @throws {RequestError}
   * @throws {ProviderError}
   */
  login(request: LoginRequest, before?: BeforeChange): Promise<NewToken>;
  /** Deletes the token that a login created. @throws {DeniedError} for any other token */
  logout(secret: string | null, before?: BeforeChange): Promise<void>;
  readonly state: AclState;
  /** What an operator has to decide, or null. @throws {StoreError} */
  conflict(): Promise<AclConflict | null>;
  /** Decides it. @throws {ConflictError} `no_conflict` @throws {CaError} */
  resolve(keep: AclResolution, before?: BeforeChange): Promise<void>;
  /** The id of the key-encryption key of the ACL key, or null before that is loaded. */
  readonly kek: string | null;
  /**
   * Encrypts the ACL key with the current key-encryption key.
   * @returns whether anything changed.
   * @throws {CaError}
   */
  rewrap(before?: BeforeChange): Promise<boolean>;
}

export interface LoginRequest {
  readonly authMethod: string;
  /** The token of the auth method's issuer. */
  readonly bearerToken: string;
  /** Shown in the description of the ACL token. */
  readonly meta: Readonly<Record<string, string>>;
}
