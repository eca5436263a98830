/**
 * The audit log: one record for each decision, written before its effect.
 *
 * - A leaf: `record` is called when everything about it is decided and before it is signed. The
 *   record may still be in memory when the leaf is answered; a crash may lose the last of them.
 * - A change of what is stored: `beforeChange` is awaited before the commit. Once it has resolved,
 *   the record survives a crash. If it throws, nothing may be changed.
 * - A refusal: `refusal` is called with the error by each layer that the error passes. The first
 *   call counts, since the innermost layer knows most.
 *
 * A record has the caller, its address, the action and the outcome: names, identifiers and codes,
 * never a secret, a body or the text of an error. If records cannot be written, the implementation
 * throws `audit_unavailable` or goes on, as the operator chose.
 * @module
 */

/** The caller. All fields are null for the background work of the CA. */
export interface Caller {
  /** The public handle of a token, never its secret; null without one. */
  readonly accessor: string | null;
  /** The peer's address. */
  readonly address: string | null;
  readonly requestId: string | null;
}

export const NOBODY: Caller = { accessor: null, address: null, requestId: null };

export interface AuditRecord {
  readonly caller: Caller;
  /** `sign`, the kind of a change, or the method and path of a request refused before that. */
  readonly action: string;
  /** The SPIFFE ID of a leaf, the ID of a root, or null. */
  readonly subject: string | null;
  /** `failed`: it was allowed, but could not be done. */
  readonly outcome: "allowed" | "refused" | "failed";
  /** The code of the error, or another word for the outcome. */
  readonly code: string | null;
  /** Of a leaf, in colon hex. */
  readonly serial?: string;
  readonly keyId?: string;
  /** More about the subject: what a denial matches and why, the auth method of a login. */
  readonly detail?: AuditDetail | undefined;
}

/** Names and texts that a caller or an operator gave, none of them secret. */
export type AuditDetail = Readonly<Record<string, string>>;

export interface Audit {
  /** @throws {NotReadyError} `audit_unavailable` if signing must stop */
  record(record: AuditRecord): void;
  /**
   * @param options.mayUseReserve whether the record may use the reserve for a full disk (true
   * unless given). False for what callers without an operator's token can repeat at will.
   * @throws {NotReadyError} `audit_unavailable` if changes must stop
   */
  beforeChange(record: AuditRecord, options?: { readonly mayUseReserve?: boolean }): Promise<void>;
  /** Never throws. `make` is called only if the record is written. */
  refusal(error: unknown, make: (code: string) => AuditRecord): void;
  /** The code of the error for which records cannot be written now, or null. */
  readonly failure: string | null;
  /** Whether signing stops because of `failure`. */
  readonly stopsSigning: boolean;
  /** Whether changes stop because of `failure`. */
  readonly stopsChanges: boolean;
  /** How many records were lost because too many waited to be written. */
  readonly lost: number;
  /** Free octets of the reserve for records of changes; null without a reserve. */
  readonly reserveLeft: number | null;
}
