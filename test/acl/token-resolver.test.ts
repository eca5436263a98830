/**
 * The authorizer: the caller of a secret, changes that apply at once, and Consul's
 * texts for a refusal.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { GLOBAL_MANAGEMENT } from "../../src/acl/rule-index.ts";
import { makeUuid } from "../../src/acl/tokens.ts";
import { ANONYMOUS, type Authorization, type Authorizer } from "../../src/core/acl/authorizer.ts";
import { DeniedError, NotReadyError, StoreError } from "../../src/core/errors.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestAccess } from "./access.ts";

const ask = async (authorizer: Authorizer, secret: string | null): Promise<Authorization> =>
  authorizer.authorize(secret);
const refusal = async (
  work: () => Promise<unknown>,
): Promise<{ code: string; message: string }> => {
  try {
    await work();
  } catch (error) {
    assert.ok(
      error instanceof DeniedError || error instanceof NotReadyError || error instanceof StoreError,
      String(error),
    );
    return error;
  }
  throw new assert.AssertionError({ message: "it was not refused" });
};
const WEB = 'service "web" { policy = "write" }';

describe("TokenResolver", () => {
  it("authorize() resolves a secret to its token, the second time without a promise", async () => {
    const access = await createTestAccess();
    const policy = await access.addPolicy(WEB);
    const { token, secret } = await access.addToken({ policies: [policy.id] });
    const first = access.authorizer.authorize(secret);
    assert.ok(first instanceof Promise);
    await first;
    const second = access.authorizer.authorize(secret);
    assert.ok(!(second instanceof Promise));
    assert.equal(second.accessorId, token.accessorId);
    assert.equal(second.anonymous, false);
    assert.equal(second.allows("service", "write", "web"), true);
    assert.equal(second.allows("service", "write", "api"), false);
  });

  it("authorize() refuses every unknown secret with the same text", async () => {
    const access = await createTestAccess();
    const { token, secret } = await access.addToken();
    await ask(access.authorizer, secret);
    for (const guess of [
      makeUuid(systemRandom),
      token.accessorId,
      secret.toUpperCase(),
      `${secret} `,
      secret.slice(0, -1),
      "x".repeat(10_000),
      "\u0000",
    ]) {
      const { code, message } = await refusal(() => ask(access.authorizer, guess));
      assert.deepEqual([code, message], ["token_unknown", "ACL not found"]);
    }
  });

  it("authorize() refuses a secret it has seen once its token has another one", async () => {
    const access = await createTestAccess();
    const { token, secret } = await access.addToken();
    await ask(access.authorizer, secret);
    const entry = access.replica.tokens.get(token.accessorId);
    assert.ok(entry !== undefined);
    const other = makeUuid(systemRandom);
    const key = await access.replica.hashSecret(other);
    await access.replica.write([
      { kind: "token", id: token.accessorId, replaces: entry, content: token, key },
    ]);
    const { code, message } = await refusal(() => ask(access.authorizer, secret));
    assert.deepEqual([code, message], ["token_unknown", "ACL not found"]);
    assert.equal((await ask(access.authorizer, other)).accessorId, token.accessorId);
  });

  it("authorize() resolves a missing secret to the anonymous token", async () => {
    const access = await createTestAccess();
    for (const secret of [null, "", "anonymous"]) {
      const caller = await ask(access.authorizer, secret);
      assert.deepEqual([caller.accessorId, caller.anonymous], [ANONYMOUS.accessorId, true]);
      assert.equal(caller.allows("service", "read", "web"), false);
    }
    const policy = await access.addPolicy('service_prefix "" { policy = "read" }');
    await access.addToken({ accessorId: ANONYMOUS.accessorId, policies: [policy.id] });
    assert.equal((await ask(access.authorizer, null)).allows("service", "read", "web"), true);
  });

  it("authorize() follows a token that is changed, deleted or created again with another secret", async () => {
    const access = await createTestAccess();
    const { replica, authorizer } = access;
    const policy = await access.addPolicy(WEB);
    const { token, secret } = await access.addToken();
    const entry = () => replica.tokens.get(token.accessorId);
    assert.equal((await ask(authorizer, secret)).allows("service", "write", "web"), false);
    const draft = { kind: "token", id: token.accessorId } as const;
    await replica.write([
      {
        ...draft,
        replaces: entry() ?? null,
        content: { ...token, policies: [policy.id] },
        key: entry()?.hash ?? null,
      },
    ]);
    assert.equal((await ask(authorizer, secret)).allows("service", "write", "web"), true);
    await replica.write([{ ...draft, replaces: entry() ?? null, content: null }]);
    assert.equal((await refusal(() => ask(authorizer, secret))).code, "token_unknown");
    const again = await access.addToken({ accessorId: token.accessorId });
    assert.equal((await refusal(() => ask(authorizer, secret))).code, "token_unknown");
    assert.equal((await ask(authorizer, again.secret)).accessorId, token.accessorId);
  });

  it("authorize() follows a policy that is changed or deleted", async () => {
    const access = await createTestAccess();
    const { replica, authorizer } = access;
    const policy = await access.addPolicy(WEB);
    const { secret } = await access.addToken({ policies: [policy.id] });
    const may = async () => (await ask(authorizer, secret)).allows("service", "write", "web");
    assert.equal(await may(), true);
    const draft = { kind: "policy", id: policy.id, key: policy.name } as const;
    const entry = () => replica.policies.get(policy.id) ?? null;
    await replica.write([
      {
        ...draft,
        replaces: entry(),
        content: { ...policy, rules: 'service "web" { policy = "deny" }' },
      },
    ]);
    assert.equal(await may(), false);
    await replica.write([{ ...draft, replaces: entry(), content: policy }]);
    assert.equal(await may(), true);
    await replica.write([{ ...draft, replaces: entry(), content: null }]);
    assert.equal(await may(), false);
  });

  it("authorize() refuses a token from its expiry on, seen before or not", async () => {
    const access = await createTestAccess();
    const { secret } = await access.addToken({
      expirationTime: new Date(access.clock.now().getTime() + 1000),
    });
    await ask(access.authorizer, secret);
    access.clock.advance(999);
    await ask(access.authorizer, secret);
    access.clock.advance(1);
    assert.equal((await refusal(() => ask(access.authorizer, secret))).message, "ACL not found");
  });

  it("allows() counts only identities and policies of this datacenter", async () => {
    const access = await createTestAccess();
    const elsewhere = await access.addPolicy('operator = "write"', { datacenters: ["dc2"] });
    const here = await access.addPolicy('mesh = "write"', { datacenters: ["dc1", "dc2"] });
    const { secret } = await access.addToken({
      policies: [elsewhere.id, here.id, makeUuid(systemRandom)],
      serviceIdentities: [
        { serviceName: "web", datacenters: [] },
        { serviceName: "far", datacenters: ["dc2"] },
      ],
      nodeIdentities: [
        { nodeName: "n1", datacenter: "dc1" },
        { nodeName: "n2", datacenter: "dc2" },
      ],
    });
    const caller = await ask(access.authorizer, secret);
    for (const [resource, name, expected] of [
      ["operator", "", false],
      ["mesh", "", true],
      ["service", "web", true],
      ["service", "web-sidecar-proxy", true],
      ["service", "far", false],
      ["node", "n1", true],
      ["node", "n2", false],
    ] as const)
      assert.equal(caller.allows(resource, "write", name), expected, `${resource} ${name}`);
    assert.deepEqual(caller.identities, [
      { kind: "service", name: "web" },
      { kind: "node", name: "n1" },
    ]);
  });

  it("identities has each identity of a token once, and none of a policy or of the anonymous token", async () => {
    const access = await createTestAccess();
    const policy = await access.addPolicy('service "api" { policy = "write" }');
    const { secret } = await access.addToken({
      policies: [policy.id],
      serviceIdentities: [
        { serviceName: "web", datacenters: [] },
        { serviceName: "web", datacenters: ["dc1"] },
      ],
    });
    assert.deepEqual((await ask(access.authorizer, secret)).identities, [
      { kind: "service", name: "web" },
    ]);
    const manager = await access.addToken({ policies: [GLOBAL_MANAGEMENT.id] });
    assert.deepEqual((await ask(access.authorizer, manager.secret)).identities, []);
    await access.addToken({
      accessorId: ANONYMOUS.accessorId,
      serviceIdentities: [{ serviceName: "web", datacenters: [] }],
    });
    assert.deepEqual((await ask(access.authorizer, null)).identities, []);
  });

  it("allows() grants everything to the builtin policy, and acl permissions never by the default policy", async () => {
    const manager = await createTestAccess();
    const { secret } = await manager.addToken({ policies: [GLOBAL_MANAGEMENT.id] });
    assert.equal((await ask(manager.authorizer, secret)).allows("acl", "write"), true);
    const open = await createTestAccess({ defaultPolicy: "allow" });
    const caller = await ask(open.authorizer, null);
    assert.equal(caller.allows("service", "write", "web"), true);
    assert.equal(caller.allows("operator", "write"), true);
    assert.equal(caller.allows("acl", "read"), false);
  });

  it("require() refuses with Consul's texts", async () => {
    const access = await createTestAccess();
    const { token, secret } = await access.addToken();
    const [nobody, holder] = [
      await ask(access.authorizer, null),
      await ask(access.authorizer, secret),
    ];
    const said = async (work: () => void) => (await refusal(async () => work())).message;
    assert.equal(
      await said(() => nobody.require("operator", "write")),
      "Permission denied: anonymous token lacks permission 'operator:write'. The anonymous token is used implicitly when a request does not specify a token.",
    );
    assert.match(
      await said(() => nobody.require("service", "write", "web")),
      /lacks permission 'service:write' on "web"\. The anonymous/,
    );
    assert.equal(
      await said(() => holder.require("operator", "write")),
      `Permission denied: token with AccessorID '${token.accessorId}' lacks permission 'operator:write'`,
    );
  });

  it("authorize() refuses a token with a policy that was tampered with, since it may have denied something", async () => {
    const access = await createTestAccess();
    const policy = await access.addPolicy(WEB);
    const { secret } = await access.addToken({ policies: [policy.id] });
    await ask(access.authorizer, secret);
    await access.store.write(
      [{ kind: "policy", id: policy.id, expected: 1, next: { key: policy.name, document: "{}" } }],
      "tampered",
    );
    await access.replica.refresh();
    assert.equal((await refusal(() => ask(access.authorizer, secret))).code, "state_corrupt");
  });

  it("authorize() works until the allowed staleness is exceeded", async () => {
    const access = await createTestAccess({ maxStalenessMs: 1000 });
    const { secret } = await access.addToken();
    access.clock.advance(1000);
    await ask(access.authorizer, secret);
    access.clock.advance(1);
    assert.equal((await refusal(() => ask(access.authorizer, secret))).code, "state_stale");
    await access.replica.refresh();
    await ask(access.authorizer, secret);
  });

  it("authorize() does not exceed the allowed staleness after a clock was ahead", async () => {
    const access = await createTestAccess({ maxStalenessMs: 1000 });
    const { secret } = await access.addToken();
    access.clock.advance(7 * 86_400_000);
    await access.replica.refresh();
    await ask(access.authorizer, secret);
    access.clock.advance(-1000);
    await ask(access.authorizer, secret);
    access.clock.advance(-7 * 86_400_000);
    assert.equal((await refusal(() => ask(access.authorizer, secret))).code, "state_stale");
    await access.replica.refresh();
    await ask(access.authorizer, secret);
  });

  it("authorize() adds little to the cost of a leaf once a secret was seen", async () => {
    const access = await createTestAccess();
    const policies = await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        access.addPolicy(`service_prefix "p${i}-" { policy = "read" }`),
      ),
    );
    const made = await Promise.all(
      Array.from({ length: 200 }, () =>
        access.addToken({ policies: policies.map(({ id }) => id) }),
      ),
    );
    for (const { secret } of made) await ask(access.authorizer, secret);
    const started = performance.now();
    const calls = 20_000;
    for (let i = 0; i < calls; i++) {
      const caller = access.authorizer.authorize(made[i % made.length]?.secret ?? null);
      assert.ok(!(caller instanceof Promise));
      caller.allows("service", "write", "web");
    }
    // A leaf costs about 300 µs of CPU (README.md); 5 % of it are 15 µs.
    const each = ((performance.now() - started) / calls) * 1000;
    assert.ok(each < 100, `${each.toFixed(1)} µs`);
  });
});
