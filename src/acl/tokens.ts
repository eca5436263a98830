/**
 * Rules for the fields of tokens and other records: ids, lifetimes, names, descriptions.
 * @module
 */

import { formatDuration } from "../consul/duration.ts";
import { ANONYMOUS } from "../core/acl/authorizer.ts";
import type { Entry, Token } from "../core/acl/types.ts";
import { hex } from "../core/bytes.ts";
import { ConflictError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import { malformed } from "./errors.ts";

/** RFC 9562 §4, of any version, as Consul takes them. */
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Consul reserves these for builtin tokens and policies (`ACLReservedPrefix`). */
const RESERVED = "00000000-0000-0000-0000-0000000000";

/** Consul's `token_min_ttl` and `token_max_ttl` by default. */
export const [MIN_TTL_MS, MAX_TTL_MS] = [60_000, 24 * 3_600_000];
/**
 * Longer secrets are refused without hashing them. Consul's have 36 characters, those of old versions
 * may have more.
 */
export const MAX_SECRET_LENGTH = 128;
/**
 * Consul's `ServiceIdentityNameMaxLength`, and the pattern that goes with it; nodes have the same.
 */
const IDENTITY_NAME = /^[a-z0-9](?:[a-z0-9_-]{0,254}[a-z0-9])?$/;

/** Consul's `validPolicyName` and `validRoleName`. */
const POLICY_NAME = /^[A-Za-z0-9_-]{1,128}$/;
const ROLE_NAME = /^[A-Za-z0-9_-]{1,256}$/;

/** Consul has no bound; a record is read by every replica. */
export const MAX_DESCRIPTION = 4096;

/** The anonymous token, unless an operator wrote one. */
export const ANONYMOUS_TOKEN: Entry<Token> = {
  value: {
    accessorId: ANONYMOUS.accessorId,
    description: "Anonymous Token",
    policies: [],
    serviceIdentities: [],
    nodeIdentities: [],
    local: false,
    createTime: new Date(0),
    expirationTime: null,
    authMethod: null,
  },
  version: 0,
  createIndex: 0,
  modifyIndex: 0,
};

/** A random UUID (RFC 9562 §5.4). */
export function makeUuid(random: Random): string {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * Checks an id that a caller chose for a new token.
 * @param what the field, `AccessorID` or `SecretID`. The error does not repeat the id.
 * @throws {RequestError} `request_malformed`
 */
export function requireNewId(id: string, what: string): void {
  // Consul's texts (agent/consul/auth/token_writer.go).
  if (id.startsWith(RESERVED))
    throw malformed(`Invalid Token: ${what} - UUIDs with the prefix "${RESERVED}" are reserved`);
  if (!UUID.test(id)) throw malformed(`Invalid Token: ${what} - not a valid UUID`);
}

/**
 * When a new token expires.
 * @param ttlMs milliseconds from now, or null.
 * @param time the instant, or null.
 * @returns null for a token that does not expire.
 * @throws {RequestError} `request_malformed`
 */
export function expiryOf(ttlMs: number | null, time: Date | null, now: Date): Date | null {
  // Consul's texts (agent/consul/auth/token_writer.go).
  if (ttlMs !== null && ttlMs < 0)
    throw malformed(`Token Expiration TTL '${formatDuration(ttlMs)}' should be > 0`);
  const fromTtl = ttlMs === null || ttlMs === 0 ? null : new Date(now.getTime() + ttlMs);
  if (fromTtl !== null && time !== null)
    throw malformed("Token Expiration TTL and Expiration Time cannot both be set");
  const expiry = fromTtl ?? time;
  if (expiry === null) return null;
  const left = expiry.getTime() - now.getTime();
  if (Number.isNaN(left)) throw malformed("Invalid Token: ExpirationTime is not a valid time");
  if (left < 0) throw malformed("ExpirationTime cannot be before CreateTime");
  const refused = (bound: string, ms: number) =>
    malformed(
      `ExpirationTime cannot be ${bound} than ${formatDuration(ms)} in the future (was ${formatDuration(left)})`,
    );
  if (left > MAX_TTL_MS) throw refused("more", MAX_TTL_MS);
  if (left < MIN_TTL_MS) throw refused("less", MIN_TTL_MS);
  return expiry;
}

/** @param expiry null for what does not expire. */
export function isExpired(expiry: Date | null, now: Date): boolean {
  return expiry !== null && expiry.getTime() <= now.getTime();
}

/** Whether a service or node identity can have a name. */
export function isIdentityName(name: string): boolean {
  return IDENTITY_NAME.test(name);
}

export function isPolicyName(name: string): boolean {
  return POLICY_NAME.test(name);
}

export function isRoleName(name: string): boolean {
  return ROLE_NAME.test(name);
}

/** The secret of a request, the anonymous one if it has none; null if it is too long for one. */
export function presentedSecret(secret: string | null): string | null {
  if (secret === null || secret === "") return ANONYMOUS.secret;
  return secret.length > MAX_SECRET_LENGTH ? null : secret;
}

/** @param what whose text it is, `Token`. @throws {RequestError} `request_malformed` */
export function requireDescription(what: string, text: string, field = "Description"): void {
  if (text.length > MAX_DESCRIPTION)
    throw malformed(`Invalid ${what}: ${field} is longer than ${MAX_DESCRIPTION} characters`);
}

/**
 * A record that was just written, as it is read back.
 * @throws {ConflictError} `index_mismatch` if it was deleted concurrently
 */
export function requireWritten<T>(what: string, entry: T | undefined): T {
  if (entry !== undefined) return entry;
  throw new ConflictError("index_mismatch", `Cannot show ${what}: it was deleted concurrently`);
}
