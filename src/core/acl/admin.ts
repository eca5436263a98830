/**
 * The administration port: how an operator reads and changes tokens, policies, roles, auth methods,
 * binding rules and the denylist. Its caller has checked the permission. Reads are from memory and never
 * fail. When the promise of a change resolves, this replica applies it; other replicas do within a
 * second while the store is available.
 *
 * Every method throws `request_malformed` for an invalid request, `not_found`, `name_taken`, and
 * `index_mismatch` after a concurrent change of the same record.
 * @module
 */

import type { Bytes } from "../bytes.ts";
import type {
  AclPolicy,
  AclRole,
  AuthMethod,
  BindingRule,
  DenylistEntry,
  Entry,
  NodeIdentity,
  ServiceIdentity,
  TemplatedPolicy,
  Token,
} from "./types.ts";

/** A new token with its secret, which is stored nowhere. */
export interface NewToken {
  readonly token: Entry<Token>;
  readonly secret: string;
}

/** A policy or role by id or, if that is empty, by name. */
export interface Link {
  readonly id: string;
  readonly name: string;
}

/** What a token or a role is to grant. */
export interface GrantsRequest {
  readonly policies: readonly Link[];
  readonly serviceIdentities: readonly ServiceIdentity[];
  readonly nodeIdentities: readonly NodeIdentity[];
  readonly templatedPolicies?: readonly TemplatedPolicy[];
}

export interface TokenRequest extends GrantsRequest {
  readonly description: string;
  readonly roles?: readonly Link[];
  readonly local: boolean;
}

export interface RoleRequest extends GrantsRequest {
  readonly name: string;
  readonly description: string;
}

export interface NewTokenRequest extends TokenRequest {
  /** Null: a random one. */
  readonly accessorId: string | null;
  /** Null: a random one. */
  readonly secret: string | null;
  readonly expirationTtlMs: number | null;
  readonly expirationTime: Date | null;
}

export type PolicyRequest = Omit<AclPolicy, "id">;
export type BindingRuleRequest = Omit<BindingRule, "id">;
export type DenylistRequest = Pick<DenylistEntry, "kind" | "value" | "reason">;

/** The leaf that is requested, by everything that a denylist entry can name. */
export interface LeafSubject {
  /** In canonical form. */
  readonly spiffeId: string;
  /** DER of each SubjectPublicKeyInfo: of the CSR, and of the leaf that is renewed. */
  readonly keys: readonly Bytes[];
  /** The subject key identifier of the leaf that is renewed, in hexadecimal with colons, or null. */
  readonly subjectKeyId: string | null;
  /** The serial number of the leaf that is renewed, in hexadecimal with colons, or null. */
  readonly serial: string | null;
}

export interface TokenAdmin {
  /**
   * Creates the first token with all permissions.
   * @param resetIndex the reset index that an operator wrote down to repeat this, or null.
   * @param requireCaller called if the bootstrap is allowed: throws if the caller is not.
   * @throws {DeniedError} `permission_denied` after a bootstrap, with Consul's text
   */
  bootstrap(
    resetIndex: number | null,
    secret: string | null,
    requireCaller: () => void,
  ): Promise<NewToken>;
  /**
   * Creates the token that the configuration names, unless a token has that secret.
   * @returns whether it created one.
   */
  ensureInitialManagement(secret: string): Promise<boolean>;
  list(): readonly Entry<Token>[];
  get(accessorId: string): Entry<Token> | null;
  create(request: NewTokenRequest): Promise<NewToken>;
  update(accessorId: string, request: TokenRequest): Promise<Entry<Token>>;
  /** @param description null: that of the token that is cloned. */
  clone(accessorId: string, description: string | null): Promise<NewToken>;
  delete(accessorId: string): Promise<void>;
}

/** The administration of one kind of record. */
export interface RecordAdmin<T, Request> {
  list(): readonly Entry<T>[];
  get(id: string): Entry<T> | null;
  create(request: Request): Promise<Entry<T>>;
  update(id: string, request: Request): Promise<Entry<T>>;
  delete(id: string): Promise<void>;
}

export interface PolicyAdmin extends RecordAdmin<AclPolicy, PolicyRequest> {
  getByName(name: string): Entry<AclPolicy> | null;
}

export interface RoleAdmin extends RecordAdmin<AclRole, RoleRequest> {
  getByName(name: string): Entry<AclRole> | null;
}

/** One of Consul's builtin templated policies. */
export interface PolicyTemplate {
  readonly name: string;
  readonly description: string;
  /** The JSON schema of its variables; empty if it has none. */
  readonly schema: string;
  /** The rules, with `{{.Name}}` for the variable. */
  readonly template: string;
}

export interface TemplateAdmin {
  list(): readonly PolicyTemplate[];
  /** @throws {RequestError} `request_malformed` for an unknown name, as Consul */
  get(name: string): PolicyTemplate;
  /** The policy that a templated policy stands for. @throws {RequestError} `request_malformed` */
  preview(templated: TemplatedPolicy): AclPolicy;
}

export interface DenylistAdmin {
  list(): readonly Entry<DenylistEntry>[];
  /**
   * Adds an entry, in force until every leaf that was signed before it, or by a replica that did not
   * know of it yet, has expired. It replaces the entry of the same kind and value.
   */
  add(request: DenylistRequest): Promise<Entry<DenylistEntry>>;
  remove(id: string): Promise<void>;
  /**
   * Until when an intermediate can be valid that was signed for a denied key, which the denial does not
   * end; null: none was.
   */
  intermediateEnd(entry: DenylistEntry): Date | null;
}

export interface AclAdmin {
  readonly tokens: TokenAdmin;
  readonly policies: PolicyAdmin;
  readonly roles: RoleAdmin;
  readonly templates: TemplateAdmin;
  /**
   * Auth methods, by name, without their secrets. Deleting one deletes its binding rules and tokens
   * as well, as in Consul.
   */
  readonly authMethods: RecordAdmin<AuthMethod, AuthMethod>;
  readonly bindingRules: RecordAdmin<BindingRule, BindingRuleRequest>;
  readonly denylist: DenylistAdmin;
  /**
   * Deletes tokens and denylist entries that expired at an instant or before it, and tokens and
   * binding rules of deleted auth methods. For the leader, periodically. A token ends by the clock; a
   * denylist entry is in force until this deletes it.
   * @param until the latest instant that looks at the store's clock have confirmed as past.
   * @returns how many records it deleted.
   */
  collect(until: Date): Promise<number>;
}
