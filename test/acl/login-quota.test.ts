/**
 * How many live tokens one subject of an auth method may have.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { StoredToken } from "../../src/acl/cache.ts";
import { LoginQuota } from "../../src/acl/login-quota.ts";
import type { AuthMethod, Entry, Token } from "../../src/core/acl/types.ts";
import { RateLimitedError } from "../../src/core/errors.ts";
import { createFakeClock } from "../fakes/clock.ts";

const METHOD: Entry<AuthMethod> = {
  value: {
    name: "m",
    id: "id",
    type: "jwt",
    displayName: "",
    description: "",
    maxTokenTtlMs: 0,
    config: {},
  },
  version: 1,
  createIndex: 1,
  modifyIndex: 1,
};
const SUBJECT = "web";

function roomOf(most: number) {
  const clock = createFakeClock();
  const tokens = new Map<string, StoredToken>();
  const token = (
    accessorId: string,
    createIndex: number,
    change: Partial<Token> = {},
  ): StoredToken => {
    const value: Token = {
      accessorId,
      description: "",
      policies: [],
      serviceIdentities: [],
      nodeIdentities: [],
      local: false,
      createTime: clock.now(),
      expirationTime: new Date(clock.now().getTime() + 60_000),
      authMethod: "m",
      login: { methodId: "id", methodVersion: 1, subject: SUBJECT },
      ...change,
    };
    const entry = { value, version: 1, createIndex, modifyIndex: createIndex, hash: accessorId };
    tokens.set(accessorId, entry);
    return entry;
  };
  return { clock, token, room: new LoginQuota({ tokens }, clock, most) };
}

const full = (error: unknown) => {
  assert.ok(
    error instanceof RateLimitedError && error.code === "login_tokens_exceeded",
    String(error),
  );
  assert.match(error.message, /^Cannot log in: this subject has 2 live tokens, the limit;/);
  return true;
};

describe("LoginQuota", () => {
  it("require() refuses another login of a subject at its limit of live tokens", () => {
    const { clock, token, room } = roomOf(2);
    token("a", 2);
    room.require(METHOD, SUBJECT);
    token("b", 3);
    assert.throws(() => room.require(METHOD, SUBJECT), full);
    room.require(METHOD, "another");
    clock.advance(60_000);
    room.require(METHOD, SUBJECT);
  });

  it("require() does not count tokens of another method, of an earlier one of that name, or of no login", () => {
    const { token, room } = roomOf(2);
    token("a", 2, { authMethod: "other" });
    token("b", 3, { login: { methodId: "before", methodVersion: 1, subject: SUBJECT } });
    token("c", 0);
    token("d", 4, { authMethod: null, login: undefined });
    token("e", 5);
    room.require(METHOD, SUBJECT);
  });

  it("refusal() keeps the tokens written first, and of one write those with the lower accessor", () => {
    const { token, room } = roomOf(2);
    const [first, last, second, third] = [
      token("z", 2),
      token("c", 9),
      token("a", 5),
      token("b", 5),
    ];
    assert.equal(room.refusal(METHOD, SUBJECT, first), null);
    assert.equal(room.refusal(METHOD, SUBJECT, second), null);
    assert.ok(full(room.refusal(METHOD, SUBJECT, third)));
    assert.ok(full(room.refusal(METHOD, SUBJECT, last)));
  });
});
