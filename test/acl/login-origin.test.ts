/**
 * Auth methods that are deleted and created again: tokens and rules of the earlier one stay
 * invalid.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AclRecords } from "../../src/acl/admin.ts";
import type { RecordSchema } from "../../src/acl/record-codec.ts";
import { makeUuid } from "../../src/acl/tokens.ts";
import type { AuthMethod, BindingRule } from "../../src/core/acl/types.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestAccess } from "./access.ts";

const PUBLIC_KEY = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
`;
const METHOD: AuthMethod = {
  name: "m",
  type: "jwt",
  displayName: "",
  description: "",
  maxTokenTtlMs: 0,
  config: {
    BoundAudiences: ["meshca"],
    JWTValidationPubKeys: [PUBLIC_KEY],
    ClaimMappings: { sub: "name" },
  },
};

async function setup(recordSchema: RecordSchema) {
  const access = await createTestAccess({ recordSchema });
  const { replica, clock } = access;
  const leaves = {
    scope: () => ({ trustDomain: "abc.consul", datacenter: "dc1" }),
    horizonMs: () => 0,
    intermediateEnd: () => null,
  };
  const admin = new AclRecords({
    replica,
    clock,
    random: systemRandom,
    keySets: { check: () => undefined },
    reviews: { check: () => undefined },
    leaves,
  });
  /** A token as a login makes it. */
  const logIn = async () => {
    const method = replica.authMethods.get("m");
    assert.ok(method);
    return access.addToken({
      authMethod: "m",
      login: { methodId: method.value.id ?? null, methodVersion: method.version, subject: "s" },
      serviceIdentities: [{ serviceName: "web", datacenters: [] }],
    });
  };
  /** Deletes only the method, as a replica does that dies in the middle. */
  const loseMethod = async () => {
    const replaces = replica.authMethods.get("m") ?? null;
    await replica.write([{ kind: "auth-method", id: "m", replaces, content: null }]);
  };
  const isKnown = async (secret: string) => {
    try {
      await access.authorizer.authorize(secret);
      return true;
    } catch {
      return false;
    }
  };
  return { ...access, admin, logIn, loseMethod, isKnown };
}

for (const schema of [1, 2] as const)
  describe(`an auth method that is created again, in records of schema ${schema}`, () => {
    it("does not revive the tokens of an earlier method of its name", async () => {
      const { admin, logIn, loseMethod, isKnown, replica, clock } = await setup(schema);
      await admin.authMethods.create(METHOD);
      const { secret, token } = await logIn();
      assert.equal(await isKnown(secret), true);
      await loseMethod();
      assert.equal(await isKnown(secret), false);
      await admin.authMethods.create(METHOD);
      assert.equal(await isKnown(secret), false);
      assert.equal(admin.tokens.get(token.accessorId), null);
      assert.ok(!admin.tokens.list().some(({ value }) => value.accessorId === token.accessorId));
      const fresh = await logIn();
      assert.equal(await isKnown(fresh.secret), true);
      assert.equal(await admin.collect(clock.now()), 1);
      assert.deepEqual([...replica.tokens.keys()], [fresh.token.accessorId]);
    });

    it("does not revive the binding rules of an earlier method of its name", async () => {
      const { admin, loseMethod, replica, clock } = await setup(schema);
      await admin.authMethods.create(METHOD);
      const rule: Omit<BindingRule, "id"> = {
        description: "",
        authMethod: "m",
        bindType: "service",
        bindName: "web",
        selector: "",
      };
      await admin.bindingRules.create(rule);
      await loseMethod();
      await admin.authMethods.create({
        ...METHOD,
        config: { ...METHOD.config, ClaimMappings: {} },
      });
      assert.equal(await admin.collect(clock.now()), 1);
      assert.equal(replica.bindingRules.size, 0);
    });

    it("keeps its tokens when it is changed", async () => {
      const { admin, logIn, isKnown } = await setup(schema);
      await admin.authMethods.create(METHOD);
      const { secret } = await logIn();
      await admin.authMethods.update(METHOD.name, { ...METHOD, description: "changed" });
      assert.equal(await isKnown(secret), true);
    });

    it("loses its tokens when it is deleted", async () => {
      const { admin, logIn, isKnown, replica } = await setup(schema);
      await admin.authMethods.create(METHOD);
      const { secret } = await logIn();
      await admin.authMethods.delete("m");
      assert.equal(await isKnown(secret), false);
      assert.equal(replica.tokens.size, 0);
    });
  });

describe("a token of a login that ran while its auth method was created again", () => {
  it("is invalid: it has the id of the method that created it", async () => {
    const { admin, loseMethod, replica, addToken, isKnown } = await setup(2);
    await admin.authMethods.create(METHOD);
    const before = replica.authMethods.get("m");
    await loseMethod();
    await admin.authMethods.create(METHOD);
    const { secret } = await addToken({
      authMethod: "m",
      login: { methodId: before?.value.id ?? null, methodVersion: 1, subject: "s" },
    });
    assert.equal(await isKnown(secret), false);
  });

  it("is invalid if the method's record has a lower version than when the token was created", async () => {
    const { admin, replica, addToken, isKnown } = await setup(2);
    await admin.authMethods.create(METHOD);
    const method = replica.authMethods.get("m");
    const login = {
      methodId: method?.value.id ?? null,
      methodVersion: 2,
      subject: makeUuid(systemRandom),
    };
    const { secret } = await addToken({ authMethod: "m", login });
    assert.equal(await isKnown(secret), false);
  });
});
