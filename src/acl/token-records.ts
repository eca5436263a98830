/**
 * AclAdmin of tokens, by Consul's rules and with its texts.
 * @module
 */
import type {
  NewToken,
  NewTokenRequest,
  PolicyAdmin,
  RoleAdmin,
  TokenAdmin,
  TokenRequest,
} from "../core/acl/admin.ts";
import { ANONYMOUS } from "../core/acl/authorizer.ts";
import type { Entry, Token } from "../core/acl/types.ts";
import { ConflictError, DeniedError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import { malformed, notFound } from "./errors.ts";
import { grantsOf, idOfLink, requireFewLinks } from "./grants.ts";
import { isOrphaned } from "./login-origin.ts";
import type { AclReplica } from "./replica.ts";
import { GLOBAL_MANAGEMENT } from "./rule-index.ts";
import {
  ANONYMOUS_TOKEN,
  expiryOf,
  isExpired,
  MAX_SECRET_LENGTH,
  makeUuid,
  requireDescription,
  requireNewId,
  requireWritten,
} from "./tokens.ts";
import type { Draft } from "./write.ts";

export class TokenRecords implements TokenAdmin {
  readonly #replica: AclReplica;
  readonly #policies: PolicyAdmin;
  readonly #roles: RoleAdmin;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(
    replica: AclReplica,
    { policies, roles }: { readonly policies: PolicyAdmin; readonly roles: RoleAdmin },
    clock: Clock,
    random: Random,
  ) {
    this.#replica = replica;
    this.#policies = policies;
    this.#roles = roles;
    this.#clock = clock;
    this.#random = random;
  }

  async bootstrap(
    resetIndex: number | null,
    chosen: string | null,
    requireCaller: () => void,
  ): Promise<NewToken> {
    const replica = this.#replica;
    await replica.refresh();
    replica.requireLoaded();
    const before = replica.bootstrap;
    if (before !== null && before.modifyIndex !== resetIndex)
      throw bootstrapRefused(before.modifyIndex);
    // The CA document names a first token whose record is lost.
    if (before === null && replica.recordedBootstrap !== null && replica.index !== resetIndex)
      throw bootstrapRefused(replica.index);
    requireCaller();
    if (chosen !== null) requireNewId(chosen, "SecretID");
    const content = this.#managementToken("Bootstrap Token (Global Management)");
    try {
      return await this.#insert(content, chosen ?? makeUuid(this.#random), [
        bootstrapDraft(content, before),
      ]);
    } catch (error) {
      if (error instanceof ConflictError && error.code === "index_mismatch")
        throw bootstrapRefused(replica.bootstrap?.modifyIndex ?? 0);
      throw error;
    }
  }

  async ensureInitialManagement(secret: string): Promise<boolean> {
    if (secret === "") throw malformed("The initial management token is empty");
    if (secret === ANONYMOUS.secret)
      throw malformed('The initial management token is "anonymous", the anonymous token');
    if (secret.length > MAX_SECRET_LENGTH)
      throw malformed(
        `The initial management token is longer than ${MAX_SECRET_LENGTH} characters`,
      );
    const exists = async () =>
      this.#replica.tokensByHash.has(await this.#replica.hashSecret(secret));
    if (await exists()) return false;
    const content = this.#managementToken("Initial Management Token");
    const first = this.#replica.bootstrap === null ? [bootstrapDraft(content, null)] : [];
    try {
      await this.#insert(content, secret, first);
      return true;
    } catch (error) {
      // Another replica may have created it concurrently.
      if (error instanceof ConflictError && (await exists())) return false;
      throw error;
    }
  }

  list(): readonly Entry<Token>[] {
    const { tokens } = this.#replica;
    const implicit = tokens.has(ANONYMOUS.accessorId) ? [] : [ANONYMOUS_TOKEN];
    return [...implicit, ...tokens.values()].filter((entry) => this.#isLive(entry));
  }

  get(accessorId: string): Entry<Token> | null {
    const entry =
      this.#replica.tokens.get(accessorId) ??
      (accessorId === ANONYMOUS.accessorId ? ANONYMOUS_TOKEN : null);
    return entry !== null && this.#isLive(entry) ? entry : null;
  }

  async create(request: NewTokenRequest): Promise<NewToken> {
    const now = this.#clock.now();
    if (request.accessorId !== null) requireNewId(request.accessorId, "AccessorID");
    if (request.secret !== null) requireNewId(request.secret, "SecretID");
    const content: Token = {
      accessorId: request.accessorId ?? makeUuid(this.#random),
      ...this.#contentOf(request),
      createTime: now,
      expirationTime: expiryOf(request.expirationTtlMs, request.expirationTime, now),
      authMethod: null,
    };
    try {
      return await this.#insert(content, request.secret ?? makeUuid(this.#random));
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      const field = error.code === "name_taken" ? "SecretID" : "AccessorID";
      throw new ConflictError("name_taken", `Invalid Token: ${field} is already in use`);
    }
  }

  async update(accessorId: string, request: TokenRequest): Promise<Entry<Token>> {
    const { value } = this.#require(accessorId);
    const content = { ...value, ...this.#contentOf(request) };
    if (content.local !== value.local) throw malformed(`Cannot toggle local mode of ${accessorId}`);
    const replaces = this.#replica.tokens.get(accessorId) ?? null;
    const key = replaces?.hash ?? (await this.#replica.hashSecret(ANONYMOUS.secret));
    await this.#replica.write([{ kind: "token", id: accessorId, replaces, content, key }]);
    return this.#written(accessorId);
  }

  async clone(accessorId: string, description: string | null): Promise<NewToken> {
    const { value } = this.#require(accessorId);
    if (value.authMethod !== null)
      throw malformed("Cannot clone a token created from an auth method");
    if (description !== null) requireDescription("Token", description);
    const content = {
      ...value,
      accessorId: makeUuid(this.#random),
      description: description ?? value.description,
      createTime: this.#clock.now(),
    };
    return this.#insert(content, makeUuid(this.#random));
  }

  async delete(accessorId: string): Promise<void> {
    if (accessorId === ANONYMOUS.accessorId)
      throw malformed("Delete operation not permitted on the anonymous token");
    const replaces = this.#replica.tokens.get(accessorId);
    if (replaces === undefined) throw notFound("token", accessorId);
    await this.#replica.write([{ kind: "token", id: accessorId, replaces, content: null }]);
  }

  #isLive(entry: Entry<Token>): boolean {
    const method = this.#replica.authMethods.get(entry.value.authMethod ?? "");
    return !isExpired(entry.value.expirationTime, this.#clock.now()) && !isOrphaned(entry, method);
  }

  #require(accessorId: string): Entry<Token> {
    const entry = this.get(accessorId);
    if (entry === null) throw notFound("token", accessorId);
    return entry;
  }

  #written(accessorId: string): Entry<Token> {
    return requireWritten("token", this.#replica.tokens.get(accessorId));
  }

  async #insert(content: Token, secret: string, more: readonly Draft[] = []): Promise<NewToken> {
    const key = await this.#replica.hashSecret(secret);
    const draft = { kind: "token", id: content.accessorId, replaces: null, content, key } as const;
    await this.#replica.write([draft, ...more]);
    return { token: this.#written(content.accessorId), secret };
  }

  #managementToken(description: string): Token {
    return {
      ...ANONYMOUS_TOKEN.value,
      accessorId: makeUuid(this.#random),
      description,
      policies: [GLOBAL_MANAGEMENT.id],
      createTime: this.#clock.now(),
    };
  }

  #contentOf(request: TokenRequest) {
    const { description, roles = [], local } = request;
    requireFewLinks("Token", request, roles.length);
    requireDescription("Token", description);
    return {
      description,
      ...grantsOf(request, "token", local, this.#policies),
      roles: [...new Set(roles.map((link) => idOfLink("role", link, this.#roles)))],
      local,
    };
  }
}

function bootstrapDraft({ accessorId }: Token, replaces: Draft["replaces"]): Draft<"bootstrap"> {
  return { kind: "bootstrap", id: "bootstrap", replaces, content: { accessorId } };
}

/** Consul's text (agent/consul/acl_endpoint.go). */
function bootstrapRefused(resetIndex: number): DeniedError {
  return new DeniedError(
    "permission_denied",
    `Permission denied: ACL bootstrap no longer allowed (reset index: ${resetIndex})`,
  );
}
