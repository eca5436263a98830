/**
 * The limits of leaves that Vault signs.
 * @module
 */

/** How far Vault's clock may be from ours, in milliseconds. */
export const CLOCK_MS = 60_000;

/**
 * Vault dates leaves back by `not_before_duration` of the role, and no call changes it. At five
 * minutes this is a tenth of a leaf's life.
 */
export const VAULT_LEAF_LIMITS = { minTtlMs: 300_000, backdateMs: 30_000 } as const;
