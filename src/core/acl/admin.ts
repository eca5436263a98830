/**
 * The administration port: what an operator does to tokens, policies, auth methods, binding rules
 * and denials. The caller has checked that the caller may do it. Reading is from memory and never
 * fails; a change has happened, and this replica knows it, once its promise resolves. Other
 * replicas know it within a second while the store answers.
 * @module
 */

import type { Bytes } from "../bytes.ts";
import type {
  AuthMethod,
  BindingRule,
  Denial,
  Entry,
  NodeIdentity,
  Policy,
  ServiceIdentity,
  Token,
} from "./types.ts";

/** A token as it was just made: the secret is nowhere else. */
export interface NewToken {
  readonly token: Entry<Token>;
  readonly secret: string;
}

/** A policy by id or by name. */
export interface PolicyLink {
  readonly id: string;
  readonly name: string;
}

/** What a token may do. */
export interface TokenRequest {
  readonly description: string;
  readonly policies: readonly PolicyLink[];
  readonly serviceIdentities: readonly ServiceIdentity[];
  readonly nodeIdentities: readonly NodeIdentity[];
  readonly local: boolean;
}

export interface NewTokenRequest extends TokenRequest {
  /** Null: a random one. */
  readonly accessorId: string | null;
  readonly secret: string | null;
  readonly expirationTtlMs: number | null;
  readonly expirationTime: Date | null;
}

export type PolicyRequest = Omit<Policy, "id">;
export type BindingRuleRequest = Omit<BindingRule, "id">;
export type DenialRequest = Pick<Denial, "kind" | "value" | "reason">;

/** Whom a leaf is for, as denials name it. */
export interface LeafSubject {
  /** Canonical. */
  readonly spiffeId: string;
  /** DER of each SubjectPublicKeyInfo: of the leaf to be, and of the one that is renewed. */
  readonly keys: readonly Bytes[];
  /** The subject key identifier of the leaf that is renewed, in colon hex, or null. */
  readonly subjectKeyId: string | null;
  /** The serial number of the leaf that is renewed, in colon hex, or null. */
  readonly serial: string | null;
}

/**
 * Of every method: `request_malformed` for what is asked, `not_found` for what is not there,
 * `name_taken`, `index_mismatch`.
 */
export interface Administration {
  /**
   * The first token with all rights.
   * @param resetIndex what an operator wrote down to be allowed another time, or null.
   * @param requireCaller called if there may be one now: throws if the caller is not allowed to
   * make it.
   * @throws {DeniedError} `permission_denied` where there was one, with Consul's text
   */
  bootstrap(
    resetIndex: number | null,
    secret: string | null,
    requireCaller: () => void,
  ): Promise<NewToken>;
  /**
   * Makes the token that the configuration names where there is none with this secret.
   * @returns whether it made one.
   */
  ensureInitialManagement(secret: string): Promise<boolean>;

  tokens(): readonly Entry<Token>[];
  token(accessorId: string): Entry<Token> | null;
  /** The token of a secret that is in force, or null. */
  tokenOf(secret: string | null): Promise<Entry<Token> | null>;
  createToken(request: NewTokenRequest): Promise<NewToken>;
  updateToken(accessorId: string, request: TokenRequest): Promise<Entry<Token>>;
  cloneToken(accessorId: string, description: string | null): Promise<NewToken>;
  deleteToken(accessorId: string): Promise<void>;

  policies(): readonly Entry<Policy>[];
  policy(id: string): Entry<Policy> | null;
  policyByName(name: string): Entry<Policy> | null;
  createPolicy(request: PolicyRequest): Promise<Entry<Policy>>;
  updatePolicy(id: string, request: PolicyRequest): Promise<Entry<Policy>>;
  deletePolicy(id: string): Promise<void>;

  authMethods(): readonly Entry<AuthMethod>[];
  authMethod(name: string): Entry<AuthMethod> | null;
  createAuthMethod(method: AuthMethod): Promise<Entry<AuthMethod>>;
  updateAuthMethod(method: AuthMethod): Promise<Entry<AuthMethod>>;
  /** Its binding rules and the tokens that were made through it go with it, as in Consul. */
  deleteAuthMethod(name: string): Promise<void>;

  bindingRules(): readonly Entry<BindingRule>[];
  bindingRule(id: string): Entry<BindingRule> | null;
  createBindingRule(request: BindingRuleRequest): Promise<Entry<BindingRule>>;
  updateBindingRule(id: string, request: BindingRuleRequest): Promise<Entry<BindingRule>>;
  deleteBindingRule(id: string): Promise<void>;

  denials(): readonly Entry<Denial>[];
  /**
   * Denies until no leaf can be alive that was signed before, or by a replica that did not know of
   * it yet. The same kind and value again replaces the denial that is there.
   */
  deny(request: DenialRequest): Promise<Entry<Denial>>;
  allow(id: string): Promise<void>;
  /**
   * Why nothing is to be signed for somebody, or null. Costs one look-up for each segment of the ID
   * and, if keys are denied, three digests for each key.
   * @throws {NotReadyError} `state_stale` if nothing is loaded
   */
  denialOf(subject: LeafSubject): Denial | null;

  /**
   * Deletes the tokens and denials that ended at an instant or before it, and the tokens of auth
   * methods that are gone. For the replica that leads, from time to time. A token's rights end by
   * the clock; a denial's effect ends here.
   * @param until the latest instant that looks at the store's clock have confirmed as past.
   * @returns how much.
   */
  collect(until: Date): Promise<number>;
}
