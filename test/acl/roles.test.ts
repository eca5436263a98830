/**
 * Roles, templated policies and binding rules for them: what they grant, on this replica and on
 * another one, what is stored, and every request that is refused.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AclRecords } from "../../src/acl/admin.ts";
import { createResolverMemory, TokenResolver } from "../../src/acl/token-resolver.ts";
import type { NewTokenRequest, RoleRequest } from "../../src/core/acl/admin.ts";
import type { Authorization } from "../../src/core/acl/authorizer.ts";
import type { TemplatedPolicy } from "../../src/core/acl/types.ts";
import { CaError, StoreError } from "../../src/core/errors.ts";
import { systemRandom } from "../fakes/clock.ts";
import { guarded } from "../fixtures/guarded.ts";
import { createTestAccess, type TestAccess } from "./access.ts";

const NOTHING = { policies: [], serviceIdentities: [], nodeIdentities: [] };
const ROLE: RoleRequest = { name: "r", description: "", ...NOTHING };
const TOKEN: NewTokenRequest = {
  description: "",
  ...NOTHING,
  local: false,
  accessorId: null,
  secret: null,
  expirationTtlMs: null,
  expirationTime: null,
};
const templated = (templateName: string, name = ""): TemplatedPolicy => ({
  templateName,
  name,
  datacenters: [],
});

function adminOf(replica: TestAccess["replica"], { clock }: TestAccess): AclRecords {
  const leaves = {
    scope: () => ({ trustDomain: "abc.consul", datacenter: "dc1" }),
    horizonMs: () => 1000,
    intermediateEnd: () => null,
  };
  return new AclRecords({
    replica,
    clock,
    random: systemRandom,
    keySets: { check: () => undefined },
    reviews: { check: () => undefined },
    leaves,
  });
}

async function setup() {
  const access = await createTestAccess();
  const admin = adminOf(access.replica, access);
  const tokenOf = async (request: Partial<NewTokenRequest>) => {
    const { secret } = await admin.tokens.create({ ...TOKEN, ...request });
    return { secret, rights: (): Promise<Authorization> => rightsOf(access, secret) };
  };
  return { access, admin, tokenOf };
}

const rightsOf = async ({ authorizer }: TestAccess, secret: string) =>
  await authorizer.authorize(secret);

const refusal = async (work: () => unknown): Promise<string> => {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof CaError, String(error));
    return error.message;
  }
  throw new assert.AssertionError({ message: "it was not refused" });
};

describe("roles", () => {
  it("grant their policies, identities and templated policies to the tokens that link them", async () => {
    const { access, admin, tokenOf } = await setup();
    const policy = await access.addPolicy('operator = "read"', { name: "ops" });
    const { value: role } = await admin.roles.create({
      ...ROLE,
      policies: [{ id: "", name: "ops" }],
      serviceIdentities: [
        { serviceName: "web", datacenters: [] },
        { serviceName: "far", datacenters: ["dc2"] },
      ],
      nodeIdentities: [
        { nodeName: "n1", datacenter: "dc1" },
        { nodeName: "n2", datacenter: "dc2" },
      ],
      templatedPolicies: [
        templated("builtin/service", "api"),
        templated("builtin/node", "n3"),
        { ...templated("builtin/service", "away"), datacenters: ["dc2"] },
      ],
    });
    assert.deepEqual(role.policies, [policy.id]);
    const { rights } = await tokenOf({ roles: [{ id: "", name: "r" }] });
    const found = await rights();
    for (const [resource, level, name, expected] of [
      ["operator", "read", "", true],
      ["operator", "write", "", false],
      ["service", "write", "web", true],
      ["service", "write", "web-sidecar-proxy", true],
      ["service", "write", "api", true],
      ["service", "write", "api-sidecar-proxy", true],
      ["service", "read", "other", true],
      ["service", "write", "far", false],
      ["service", "write", "away", false],
      ["node", "write", "n1", true],
      ["node", "write", "n2", false],
      ["node", "write", "n3", true],
    ] as const)
      assert.equal(found.allows(resource, level, name), expected, `${resource}:${level} ${name}`);
    assert.deepEqual(found.identities, [
      { kind: "service", name: "web" },
      { kind: "service", name: "api" },
      { kind: "node", name: "n1" },
      { kind: "node", name: "n3" },
    ]);
  });

  it("a rule that denies in a role precedes one that grants in the token", async () => {
    const { access, admin, tokenOf } = await setup();
    const denies = await access.addPolicy('service "web" { policy = "deny" }');
    const grants = await access.addPolicy('service "web" { policy = "write" }');
    const link = ({ id }: { id: string }) => [{ id, name: "" }];
    const { value } = await admin.roles.create({ ...ROLE, policies: link(denies) });
    const plain = await tokenOf({ policies: link(grants) });
    assert.equal((await plain.rights()).allows("service", "write", "web"), true);
    const both = await tokenOf({ policies: link(grants), roles: link(value) });
    assert.equal((await both.rights()).allows("service", "write", "web"), false);
  });

  it("a change or deletion of a role is in force at once, on another replica when it has read it", async () => {
    const { access, admin, tokenOf } = await setup();
    const service = (serviceName: string) => [{ serviceName, datacenters: [] }];
    const { value } = await admin.roles.create({ ...ROLE, serviceIdentities: service("web") });
    const { secret, rights } = await tokenOf({ roles: [{ id: value.id, name: "" }] });
    const replica = await access.addReplica();
    const other = new TokenResolver({
      replica,
      defaultPolicy: "deny",
      datacenter: "dc1",
      clock: access.clock,
      memory: createResolverMemory(systemRandom),
      maxStalenessMs: null,
    });
    const allows = async (name: string) => {
      await replica.refresh();
      return [
        (await rights()).allows("service", "write", name),
        (await other.authorize(secret)).allows("service", "write", name),
      ];
    };
    assert.deepEqual(await allows("web"), [true, true]);
    await admin.roles.update(value.id, { ...ROLE, serviceIdentities: service("api") });
    assert.deepEqual(await allows("web"), [false, false]);
    assert.deepEqual(await allows("api"), [true, true]);
    await admin.roles.delete(value.id);
    assert.deepEqual(await allows("api"), [false, false]);
    // Another role of that name is another role.
    await admin.roles.create({ ...ROLE, serviceIdentities: service("api") });
    assert.deepEqual(await allows("api"), [false, false]);
  });

  it("a role whose record was changed in the store authorizes nothing", async () => {
    const { access, admin, tokenOf } = await setup();
    const { value } = await admin.roles.create(ROLE);
    const { rights } = await tokenOf({ roles: [{ id: value.id, name: "" }] });
    await rights();
    const { records } = await access.store.read(null);
    const stored = records.find(({ kind }) => kind === "role") ?? assert.fail();
    assert.equal(stored.key, "r");
    const document = stored.document.replace("description", "descriptioN");
    assert.notEqual(document, stored.document);
    const { id, version: expected, key } = stored;
    await access.store.write([{ kind: "role", id, expected, next: { key, document } }], "away");
    await access.replica.refresh();
    assert.ok(access.replica.faulty.has(`role/${id}`));
    await assert.rejects(
      async () => await rights(),
      (error: unknown) =>
        error instanceof StoreError &&
        error.message === "Cannot authorize: the record of a role of this token has an invalid MAC",
    );
  });

  it("are refused with Consul's texts", async () => {
    const { admin } = await setup();
    await admin.roles.create(ROLE);
    const fault = (request: Partial<RoleRequest>) =>
      refusal(() => admin.roles.create({ ...ROLE, name: "other", ...request }));
    for (const [request, text] of [
      [{ name: "" }, "Invalid Role: no Name is set"],
      [
        { name: "a b" },
        "Invalid Role: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
      ],
      [
        { name: "x".repeat(257) },
        "Invalid Role: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
      ],
      [{ name: "r" }, 'Invalid Role: A Role with Name "r" already exists'],
      [
        { description: "x".repeat(4097) },
        "Invalid Role: Description is longer than 4096 characters",
      ],
      [{ policies: [{ id: "", name: "p" }] }, 'No such ACL policy with name "p"'],
      [{ policies: [{ id: "p", name: "" }] }, 'No such ACL policy with ID "p"'],
      [
        { serviceIdentities: [{ serviceName: "", datacenters: [] }] },
        "Service identity is missing the service name field on this role",
      ],
      [
        { serviceIdentities: [{ serviceName: "A", datacenters: [] }] },
        "Service identity \"A\" has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed",
      ],
      [
        { nodeIdentities: [{ nodeName: "", datacenter: "dc1" }] },
        "Node identity is missing the node name field on this role",
      ],
      [
        { nodeIdentities: [{ nodeName: "n", datacenter: "" }] },
        "Node identity is missing the datacenter field on this role",
      ],
      [
        { templatedPolicies: [templated("")] },
        "templated policy is missing the template name field on this role",
      ],
      [
        { templatedPolicies: [templated("builtin/none")] },
        'no such ACL templated policy with Name "builtin/none"',
      ],
      [
        { templatedPolicies: [templated("builtin/service")] },
        'validation error for templated policy "builtin/service": name is required',
      ],
      [
        { templatedPolicies: [templated("builtin/dns", "x")] },
        'validation error for templated policy "builtin/dns": it has no variables',
      ],
      [
        {
          templatedPolicies: [
            templated("builtin/service", 'x" { policy = "write" } acl = "write"'),
          ],
        },
        "validation error for templated policy \"builtin/service\": name: only lowercase alphanumeric characters, '-' and '_' are allowed",
      ],
      [
        {
          nodeIdentities: Array.from({ length: 257 }, (_, i) => ({
            nodeName: `n${i}`,
            datacenter: "dc1",
          })),
        },
        "Invalid Role: it has 257 policies and identities, at most 256 are allowed",
      ],
    ] as const)
      assert.equal(await fault(request), text);
    assert.equal(admin.roles.list().length, 1);
    for (const work of [() => admin.roles.update("none", ROLE), () => admin.roles.delete("none")])
      assert.equal(await refusal(work), 'Cannot find role "none"');
    const links = Array.from({ length: 257 }, () => ({ id: "", name: "r" }));
    assert.equal(
      await refusal(() => admin.tokens.create({ ...TOKEN, roles: links })),
      "Invalid Token: it has 257 policies and identities, at most 256 are allowed",
    );
  });

  it("a record without roles is stored as the version before reads it", async () => {
    const { access, admin, tokenOf } = await setup();
    await tokenOf({ serviceIdentities: [{ serviceName: "web", datacenters: [] }] });
    const stored = async () =>
      (await access.store.read(null)).records
        .filter(({ kind }) => kind !== "access-key")
        .map(({ kind, document }) => {
          const { schema, body } = JSON.parse(document) as { schema: number; body: string };
          return { kind, schema, names: Object.keys(JSON.parse(body) as object) };
        });
    const [token] = await stored();
    assert.equal(token?.schema, 2);
    assert.deepEqual(
      token?.names.filter((name) => ["roles", "templatedPolicies"].includes(name)),
      [],
    );
    await admin.roles.create(ROLE);
    await tokenOf({ roles: [{ id: "", name: "r" }] });
    await tokenOf({ templatedPolicies: [templated("builtin/dns")] });
    assert.deepEqual((await stored()).map(({ kind, schema }) => `${kind} ${schema}`).toSorted(), [
      "role 3",
      "token 2",
      "token 3",
      "token 3",
    ]);
  });
});

describe("the routes of roles and templated policies", () => {
  it("need acl:read and acl:write, and answer as Consul", async () => {
    const test = await guarded();
    const { secret } = await test.access.addToken();
    const reader = await test.access.addToken({
      policies: [(await test.access.addPolicy('acl = "read"')).id],
    });
    const made = await test.call("PUT", "/v1/acl/role", { Name: "r" });
    assert.equal(made.status, 200, made.text);
    const { ID } = JSON.parse(made.text) as { ID: string };
    const preview = "/v1/acl/templated-policy/preview/builtin/service";
    for (const [method, path, body, right] of [
      ["GET", "/v1/acl/roles", undefined, "read"],
      ["GET", `/v1/acl/role/${ID}`, undefined, "read"],
      ["GET", "/v1/acl/role/name/r", undefined, "read"],
      ["GET", "/v1/acl/templated-policies", undefined, "read"],
      ["GET", "/v1/acl/templated-policy/name/builtin/service", undefined, "read"],
      ["POST", preview, { Name: "web" }, "read"],
      ["PUT", "/v1/acl/role", { Name: "s" }, "write"],
      ["PUT", `/v1/acl/role/${ID}`, { Name: "s" }, "write"],
      ["DELETE", `/v1/acl/role/${ID}`, undefined, "write"],
    ] as const) {
      const denied = await test.call(method, path, body, secret);
      assert.equal(denied.status, 403, `${method} ${path}`);
      assert.match(denied.text, new RegExp(`lacks permission 'acl:${right}'`));
      const read = await test.call(method, path, body, reader.secret);
      assert.equal(read.status, right === "read" ? 200 : 403, `${method} ${path}: ${read.text}`);
    }
    for (const [method, path, body, status, text] of [
      [
        "PUT",
        "/v1/acl/role",
        { ID, Name: "x" },
        400,
        "Request decode failed: Cannot specify the ID when creating a new role",
      ],
      [
        "PUT",
        `/v1/acl/role/${ID}`,
        { ID: "other", Name: "x" },
        400,
        "Request decode failed: Role ID in URL and payload do not match",
      ],
      ["GET", "/v1/acl/role/none", undefined, 404, "Requested role not found"],
      ["GET", "/v1/acl/role/name/none", undefined, 404, "Requested role not found"],
      [
        "GET",
        "/v1/acl/templated-policy/name/builtin/none",
        undefined,
        400,
        "Invalid templated policy Name: builtin/none",
      ],
      ["POST", preview, { Nam: "x" }, 400, 'Request decode failed: json: unknown field "Nam"'],
      [
        "POST",
        preview,
        { Name: "A" },
        400,
        "validation error for templated policy \"builtin/service\": name: only lowercase alphanumeric characters, '-' and '_' are allowed",
      ],
    ] as const) {
      const answer = await test.call(method, path, body);
      assert.deepEqual([answer.status, answer.text], [status, text], `${method} ${path}`);
    }
  });

  it("lists are filtered as Consul's, and a deleted role is no longer shown", async () => {
    const test = await guarded();
    const ok = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
      const { status, text } = await test.call(method, path, body);
      assert.equal(status, 200, text);
      return JSON.parse(text) as T;
    };
    const policy = await ok<{ ID: string }>("PUT", "/v1/acl/policy", { Name: "p" });
    const [first, second] = [
      await ok<{ ID: string }>("PUT", "/v1/acl/role", { Name: "a", Policies: [{ Name: "p" }] }),
      await ok<{ ID: string }>("PUT", "/v1/acl/role", { Name: "b" }),
    ];
    const token = await ok<{ AccessorID: string }>("PUT", "/v1/acl/token", {
      Roles: [{ ID: first.ID }, { Name: "b" }],
      ServiceIdentities: [{ ServiceName: "web" }],
    });
    const ids = async (path: string) =>
      (await ok<{ ID?: string; AccessorID?: string }[]>("GET", path)).map(
        ({ ID, AccessorID }) => AccessorID ?? ID,
      );
    assert.deepEqual(await ids(`/v1/acl/roles?policy=${policy.ID}`), [first.ID]);
    for (const query of [`role=${second.ID}`, "servicename=web"])
      assert.deepEqual(await ids(`/v1/acl/tokens?${query}`), [token.AccessorID], query);
    assert.deepEqual(await ids(`/v1/acl/tokens?policy=${policy.ID}`), []);
    assert.deepEqual(await ids("/v1/acl/tokens?authmethod=m"), []);
    await ok("DELETE", `/v1/acl/role/${first.ID}`);
    const read = await ok<{ Roles: unknown }>("GET", `/v1/acl/token/${token.AccessorID}`);
    assert.deepEqual(read.Roles, [{ ID: second.ID, Name: "b" }]);
    // The token can be written as it was read, and be cloned.
    await ok("PUT", `/v1/acl/token/${token.AccessorID}`, read);
    const clone = await ok<{ Roles: unknown }>("PUT", `/v1/acl/token/${token.AccessorID}/clone`);
    assert.deepEqual(clone.Roles, read.Roles);
    await ok("DELETE", `/v1/acl/policy/${policy.ID}`);
    const role = await ok<{ Policies?: unknown }>("PUT", `/v1/acl/role/${second.ID}`, {
      Name: "b",
    });
    assert.equal(role.Policies, undefined);
  });
});
