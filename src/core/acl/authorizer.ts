/**
 * The authorizer port: which token a caller has, and what it permits. The caller's identity comes
 * from its token, never from what it asks for.
 *
 * - `authorize` is called once for each request, with the secret of the request, or null for an
 *   anonymous caller. It returns at once for a secret that it has seen, without reading the store;
 *   otherwise it returns a promise. It refuses a secret that is unknown, deleted or expired with
 *   `token_unknown`, whose text is Consul's `ACL not found`.
 * - It knows what the store held at most a second ago while the store is available, and the last
 *   state that it saw while the store is away, up to the allowed staleness; then it refuses with
 *   `state_stale`.
 * - An `Authorization` is for one request, and not kept: it holds what was true when it was created.
 * @module
 */

/** What is asked for; Consul's `acl.AccessLevel`. */
export type AccessLevel = "read" | "write";
/**
 * What a rule can be about. `acl`, `operator`, `mesh` and `intermediate` have no names; the last one
 * is not in Consul: to have the key of another datacenter's CA certified.
 */
export type Resource = "service" | "node" | "agent" | "acl" | "operator" | "mesh" | "intermediate";

/** A service or a node that a token was made for. */
export interface TokenIdentity {
  readonly kind: "service" | "node";
  readonly name: string;
}

/** What the token of a caller permits. */
export interface Authorization {
  readonly accessorId: string;
  /**
   * The service identities of the token, then its node identities, of this datacenter, each once.
   * The anonymous token has none.
   */
  readonly identities: readonly TokenIdentity[];
  /** Whether the request has no token, or the anonymous one. */
  readonly anonymous: boolean;
  /** @param name empty for resources without names. */
  allows(resource: Resource, level: AccessLevel, name?: string): boolean;
  /** @throws {DeniedError} `permission_denied`, with Consul's text */
  require(resource: Resource, level: AccessLevel, name?: string): void;
}

export interface Authorizer {
  /**
   * @throws {DeniedError} `token_unknown`
   * @throws {NotReadyError} `state_stale`
   * @throws {StoreError} `state_corrupt`, at once or from the promise
   */
  authorize(secret: string | null): Authorization | Promise<Authorization>;
  /** What applies if no rule does. */
  readonly defaultPolicy: "allow" | "deny";
}

/** Consul's anonymous token, which a request without a token uses. */
export const ANONYMOUS = {
  accessorId: "00000000-0000-0000-0000-000000000002",
  secret: "anonymous",
} as const;
