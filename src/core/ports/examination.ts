/**
 * What a provider finds if it looks at its external resources for an operator: the token with which it
 * calls them, what that is not allowed to do, and limits of life that are too low.
 * @module
 */

export interface MissingPermission {
  readonly namespace: string;
  readonly path: string;
  readonly capabilities: readonly string[];
  /** For example "sign leaves". */
  readonly purpose: string;
  /** Whether only a rotation to another root needs it. */
  readonly isOfRotation: boolean;
}

/** A limit of an external service on the life of what it signs. */
export interface LifeLimit {
  /** The mount. */
  readonly path: string;
  /** The field of the configuration that needs more. */
  readonly field: "LeafCertTTL" | "IntermediateCertTTL" | "RootCertTTL";
  readonly limitMs: number;
  readonly neededMs: number;
}

export interface Examination {
  readonly token: {
    readonly renewable: boolean;
    /** Null: it does not expire. */
    readonly expiresAt: Date | null;
    /** Why it could not be renewed, or null. */
    readonly failure: string | null;
    /** Whether another one is obtained by a login when it expires. */
    readonly isReplaced: boolean;
  };
  /** Null: the token is not allowed to ask for its permissions. */
  readonly missing: readonly MissingPermission[] | null;
  readonly lowLimits: readonly LifeLimit[];
  /** Mounts whose limits the token is not allowed to read. */
  readonly unreadMounts: readonly string[];
}
