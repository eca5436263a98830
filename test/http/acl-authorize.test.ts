/**
 * POST /v1/internal/acl/authorize: what a token allows, in Consul's form.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { createTestApp } from "../fixtures/app.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";

const PATH = "/v1/internal/acl/authorize";

const question = (Resource: string, Access: string, Segment?: string) => ({
  Resource,
  ...(Segment === undefined ? {} : { Segment }),
  Access,
});

describe("POST /v1/internal/acl/authorize", () => {
  let test: Guarded;
  let web: string;
  before(async () => {
    test = await guarded();
    const { id } = await test.access.addPolicy(
      'service "web" { policy = "write" } service_prefix "read-" { policy = "read" } operator = "read"',
    );
    web = (await test.access.addToken({ policies: [id] })).secret;
  });

  it("POST /v1/internal/acl/authorize answers each question with what the token allows, in Consul's fields", async () => {
    const { status, text } = await test.call(
      "POST",
      PATH,
      [
        question("service", "write", "web"),
        question("service", "write", "db"),
        question("service", "read", "read-all"),
        question("service", "write", "read-all"),
        question("operator", "READ"),
        question("operator", "write", "ignored"),
        question("node", "read", "n"),
      ],
      web,
    );
    assert.deepEqual(
      [status, text],
      [
        200,
        "[" +
          [
            '{"Resource":"service","Segment":"web","Access":"write","Allow":true}',
            '{"Resource":"service","Segment":"db","Access":"write","Allow":false}',
            '{"Resource":"service","Segment":"read-all","Access":"read","Allow":true}',
            '{"Resource":"service","Segment":"read-all","Access":"write","Allow":false}',
            '{"Resource":"operator","Access":"READ","Allow":true}',
            '{"Resource":"operator","Segment":"ignored","Access":"write","Allow":false}',
            '{"Resource":"node","Segment":"n","Access":"read","Allow":false}',
          ].join(",") +
          "]",
      ],
    );
  });

  it("POST /v1/internal/acl/authorize answers a request without a token for the anonymous one", async () => {
    const asked = [question("service", "write", "web")];
    const response = await test.fetch(PATH, { method: "POST", body: JSON.stringify(asked) });
    assert.equal(response.headers.get("cache-control"), "no-store");
    assert.deepEqual(
      [response.status, await response.json()],
      [200, [{ Resource: "service", Segment: "web", Access: "write", Allow: false }]],
    );
  });

  it("POST /v1/internal/acl/authorize answers 403 to an unknown token, and 401 without access control", async () => {
    const unknown = await test.call("POST", PATH, [], "00000000-1111-4222-8333-444444444444");
    assert.deepEqual(unknown, { status: 403, text: "ACL not found" });
    const { fetch } = await createTestApp();
    const response = await fetch(PATH, { method: "POST", body: "[]" });
    assert.deepEqual([response.status, await response.text()], [401, "ACL support disabled"]);
  });

  it("POST /v1/internal/acl/authorize takes 64 questions, and none", async () => {
    const asked = Array.from({ length: 64 }, () => question("service", "write", "web"));
    const { status, text } = await test.call("POST", PATH, asked, web);
    assert.deepEqual([status, (JSON.parse(text) as unknown[]).length], [200, 64]);
    for (const none of ["[]", "null"])
      assert.deepEqual(await test.call("POST", PATH, none, web), { status: 200, text: "[]" });
  });

  for (const [what, body, text] of [
    [
      "65 questions",
      Array.from({ length: 65 }, () => question("service", "write", "web")),
      "Refusing to process more than 64 authorizations at once",
    ],
    [
      "an object",
      question("service", "write", "web"),
      "Request decode failed: json: cannot unmarshal object into Go value of type []structs.ACLAuthorizationRequest",
    ],
    ["no JSON", "", "Request decode failed: EOF"],
    [
      "a resource that a CA lacks",
      [question("key", "read", "a")],
      'Invalid ACL resource requested: "key"',
    ],
    [
      "a property of every object",
      [question("toString", "read")],
      'Invalid ACL resource requested: "toString"',
    ],
    [
      "another level",
      [question("service", "list", "web")],
      'Invalid access level for service resource: "list"',
    ],
    ["no level", [{ Resource: "acl" }], 'Invalid access level for acl resource: ""'],
    [
      "an unknown field",
      [{ Resource: "acl", Access: "read", Allow: true }],
      'Request decode failed: json: unknown field "Allow"',
    ],
    [
      "a number for the segment",
      [{ Resource: "service", Access: "read", Segment: 1 }],
      "Request decode failed: json: cannot unmarshal number into Go struct field .Segment of type string",
    ],
  ] as const)
    it(`POST /v1/internal/acl/authorize refuses ${what}`, async () => {
      assert.deepEqual(await test.call("POST", PATH, body, web), { status: 400, text });
    });

  it("POST /v1/internal/acl/authorize answers what the token allows now", async () => {
    const policy = await test.access.addPolicy('service "late" { policy = "write" }');
    const { token, secret } = await test.access.addToken({ policies: [policy.id] });
    const ask = async () =>
      (await test.call("POST", PATH, [question("service", "write", "late")], secret)).text;
    assert.match(await ask(), /"Allow":true/);
    const admin = JSON.stringify({ Policies: [] });
    const changed = await test.call("PUT", `/v1/acl/token/${token.accessorId}`, admin);
    assert.equal(changed.status, 200, changed.text);
    assert.match(await ask(), /"Allow":false/);
  });
});
