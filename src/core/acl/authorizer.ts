/**
 * The authorizer port: who calls, and what they may do. Identity comes from the caller's token,
 * never from what it asks for.
 *
 * - `authorize` is called once for each request, with the secret as the request has it, or null
 *   where it has none, which
 *   makes the caller anonymous. It answers at once for a secret that it has seen, without looking
 *   into the store, and
 *   with a promise else. A secret that is unknown, deleted or expired is refused with
 *   `token_unknown`; Consul's text is
 *   `ACL not found`.
 * - What it knows is what the store held at most a second ago while the store answers, and the last
 *   that was seen while
 *   it does not, up to the staleness allowed; then it refuses with `state_stale`.
 * - A `Caller` is what was true when it was made. It is for one request, and not kept.
 * - `require` throws `permission_denied` with Consul's sentence; `allows` is the question alone.
 * @module
 */

export type Access = "read" | "write";
/** What has names, and what has none. */
export type Resource = "service" | "node" | "agent" | "acl" | "operator" | "mesh";

export interface Caller {
  /** The public handle of the token. */
  readonly accessorId: string;
  /** Nothing was presented, or the anonymous token itself. */
  readonly anonymous: boolean;
  /** @param name empty for `acl`, `operator` and `mesh`. */
  allows(resource: Resource, access: Access, name?: string): boolean;
  /** @throws {DeniedError} `permission_denied` */
  require(resource: Resource, access: Access, name?: string): void;
}

export interface Authorizer {
  /**
   * @throws {DeniedError} `token_unknown`
   * @throws {NotReadyError} `state_stale`
   * @throws {StoreError} `state_corrupt`, at once or from the promise
   */
  authorize(secret: string | null): Caller | Promise<Caller>;
  /** What applies where no rule does. */
  readonly defaultPolicy: "allow" | "deny";
}

/** Consul's anonymous token, which every request without one has. */
export const ANONYMOUS = {
  accessorId: "00000000-0000-0000-0000-000000000002",
  secret: "anonymous",
} as const;
