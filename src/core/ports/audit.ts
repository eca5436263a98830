/**
 * The audit log, as those who decide see it: one record for each decision, written before its
 * effect.
 *
 * - A leaf: `record` is called when everything about it is decided and before it is signed. The
 *   record may still be in
 *   memory when the leaf is answered; a crash may lose the last moments of such records.
 * - A change of what is stored: `beforeChange` is awaited before the commit. Once it has resolved,
 *   the record outlives a
 *   crash. Where it throws, nothing may be changed.
 * - A refusal: `refusal` is called with the error by everybody who sees it pass; the first call
 *   counts, since it is made
 *   where most is known.
 *
 * A record says who, from where, what and with which outcome: names, identifiers and codes, never a
 * secret, a body or a text of an error. What happens where records cannot be written is for the
 * operator to choose, and for the implementation to do: it throws `audit_unavailable`, or it does
 * not.
 * @module
 */

/** Who asked. The CA itself, doing what is due, has none of the three. */
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
  /** `sign`, the kind of a change, or the method and path of a call that did not come that far. */
  readonly action: string;
  /** The SPIFFE ID of a leaf, the ID of a root, or null. */
  readonly subject: string | null;
  /** `failed`: it was allowed, and then could not be done. */
  readonly outcome: "allowed" | "refused" | "failed";
  /** The code of the error, or what else there is to say of the outcome in one word. */
  readonly code: string | null;
  /** Of a leaf, in colon hex. */
  readonly serial?: string;
  readonly keyId?: string;
  /**
   * What else names the subject: of a denial what it is about and why, of a login its auth method
   * and who logged in.
   */
  readonly detail?: AuditDetail | undefined;
}

/** Names and texts that a caller or an operator gave, none of them secret. */
export type AuditDetail = Readonly<Record<string, string>>;

export interface Audit {
  /** @throws {NotReadyError} `audit_unavailable` where signing must stop */
  record(record: AuditRecord): void;
  /**
   * @param options.mayUseReserve whether the record may take of the room that is kept for a full
   * disk, true unless given.
   *   False for what callers without a token of an operator can do as often as they like.
   * @throws {NotReadyError} `audit_unavailable` where changes must stop
   */
  beforeChange(record: AuditRecord, options?: { readonly mayUseReserve?: boolean }): Promise<void>;
  /** Never throws. `make` is called only where the record is written. */
  refusal(error: unknown, make: (code: string) => AuditRecord): void;
  /** Why records cannot be written at the moment, or null. */
  readonly failure: string | null;
  /** Whether no leaf is signed because of it. */
  readonly stopsSigning: boolean;
  /** Whether nothing is changed because of it. */
  readonly stopsChanges: boolean;
  /** Records that were given up because too many waited to be written. */
  readonly lost: number;
  /** Octets of the reserve for records of changes that are free; null without a reserve. */
  readonly reserveLeft: number | null;
}
