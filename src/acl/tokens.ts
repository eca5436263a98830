/**
 * Tokens by themselves: their ids, how long they live, what they may be called. Whoever stores one
 * stores its secret as a keyed hash alone.
 * @module
 */

import { formatDuration } from "../consul/duration.ts";
import { ANONYMOUS } from "../core/acl/authorizer.ts";
import type { Entry, Token } from "../core/acl/types.ts";
import { hex } from "../core/bytes.ts";
import { RequestError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";

/** RFC 9562 §4, of any version, as Consul takes them. */
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Consul keeps these for what is built in (`ACLReservedPrefix`). */
const RESERVED = "00000000-0000-0000-0000-0000000000";

/** Consul's `token_min_ttl` and `token_max_ttl` by default. */
const [MIN_TTL_MS, MAX_TTL_MS] = [60_000, 24 * 3_600_000];
/**
 * Longer ones are no secret of ours, and are not hashed. Consul's are 36 characters; older ones may
 * be longer.
 */
export const MAX_SECRET_LENGTH = 128;
/**
 * Consul's `ServiceIdentityNameMaxLength`, and the pattern that goes with it; nodes have the same.
 */
const IDENTITY_NAME = /^[a-z0-9](?:[a-z0-9_-]{0,254}[a-z0-9])?$/;

/** The anonymous token where nobody wrote one. */
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

/** Whether a text is a UUID in lower case. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/**
 * Checks an id that a caller chose for a new token or policy.
 * @param what names it: `AccessorID`, `SecretID`. The id itself is never repeated.
 * @throws {RequestError} `request_malformed`
 */
export function requireNewId(id: string, what: string): void {
  // Consul's texts (agent/consul/auth/token_writer.go).
  if (id.startsWith(RESERVED))
    throw malformed(`Invalid Token: ${what} - UUIDs with the prefix "${RESERVED}" are reserved`);
  if (!isUuid(id)) throw malformed(`Invalid Token: ${what} - not a valid UUID`);
}

/** Whether an id is of something built in. */
export function isReserved(id: string): boolean {
  return id.startsWith(RESERVED);
}

/**
 * When a new token ends.
 * @param ttlMs from now on, or null.
 * @param time the instant itself, or null.
 * @returns null for a token that does not end.
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
  if (Number.isNaN(left)) throw malformed("Token expiration is not an instant");
  if (left < 0) throw malformed("ExpirationTime cannot be before CreateTime");
  const refused = (bound: string, ms: number) =>
    malformed(
      `ExpirationTime cannot be ${bound} than ${formatDuration(ms)} in the future (was ${formatDuration(left)})`,
    );
  if (left > MAX_TTL_MS) throw refused("more", MAX_TTL_MS);
  if (left < MIN_TTL_MS) throw refused("less", MIN_TTL_MS);
  return expiry;
}

/** Whether something that ends, or does not, has ended. */
export function isExpired(expiry: Date | null, now: Date): boolean {
  return expiry !== null && expiry.getTime() <= now.getTime();
}

/** Whether a name can be a service's or a node's in an identity. */
export function isIdentityName(name: string): boolean {
  return IDENTITY_NAME.test(name);
}

/**
 * A secret as a request presents it, made comparable; null where it cannot be one. No secret is the
 * anonymous one.
 */
export function presentedSecret(secret: string | null): string | null {
  if (secret === null || secret === "") return ANONYMOUS.secret;
  return secret.length > MAX_SECRET_LENGTH ? null : secret;
}

function malformed(message: string): RequestError {
  return new RequestError("request_malformed", message);
}
