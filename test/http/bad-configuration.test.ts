/**
 * Bad configurations to a real server: the status, a message that says what to do, no secret in it,
 * and nothing changed.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";
import { put, refuses } from "../fixtures/refusals.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { BAD_VALUES, type BadConfiguration, badRoots } from "./bad-configurations.ts";

describe("bad configurations", () => {
  let server: ServerProcess;
  before(async () => {
    server = await startServer();
  });
  after(() => server.stop());

  const bodies: readonly (readonly [string, unknown, string | RegExp])[] = [
    ["an empty body", "", "Request decode failed: EOF"],
    ["white space", " \n", "Request decode failed: EOF"],
    ["null", "null", "Request decode failed: null where an object belongs"],
    ["broken JSON", '{"Provider":', "Request decode failed: unexpected EOF"],
    [
      "an address that is given twice, as Address and Addr_ess",
      {
        Provider: "vault",
        Config: { Address: "https://vault.example.com", Addr_ess: "https://other.example.com" },
      },
      'error configuring provider: "Addr_ess" and "Address" are the same field: give one of them',
    ],
    [
      "a lifetime that is given twice, in two cases",
      { Provider: "consul", Config: { LeafCertTTL: "72h", leafcertttl: "1h" } },
      'error configuring provider: "LeafCertTTL" and "leafcertttl" are the same field: give one of them',
    ],
    [
      "a field below AuthMethod that is given twice",
      { Provider: "vault", Config: { AuthMethod: { MountPath: "a", mount_path: "b" } } },
      'error configuring provider: "AuthMethod.MountPath" and "AuthMethod.mount_path" are the same field: give one of them',
    ],
    [
      "a provider that is given twice",
      { Provider: "consul", provider: "vault" },
      'Request decode failed: json: duplicate key "provider": "Provider" is the same field',
    ],
    [
      "force that is given twice, in two cases",
      { Provider: "consul", ForceWithoutCrossSigning: false, forcewithoutcrosssigning: true },
      'Request decode failed: json: duplicate key "forcewithoutcrosssigning": "ForceWithoutCrossSigning" is the same field',
    ],
    [
      "a Config with a key __proto__",
      '{"Provider":"consul","Config":{"__proto__":{"LeafCertTTL":"1h"}}}',
      /unknown key "__proto__" in Config/,
    ],
    [
      "an unknown field",
      { Provider: "consul", Nope: 1 },
      'Request decode failed: json: unknown field "Nope"',
    ],
    [
      "a cluster ID",
      { Provider: "consul", ClusterID: "x" },
      'Request decode failed: json: unknown field "ClusterID"',
    ],
    [
      "a provider that is a number",
      { Provider: 1 },
      "Request decode failed: json: cannot unmarshal number into Go struct field .Alias.Provider of type string",
    ],
    [
      "a Config that is a list",
      { Provider: "consul", Config: [] },
      "Request decode failed: json: cannot unmarshal array into Go struct field .Alias.Config of type map[string]interface {}",
    ],
    [
      "a force that is text",
      { Provider: "consul", ForceWithoutCrossSigning: "true" },
      "Request decode failed: json: cannot unmarshal string into Go struct field .Alias.ForceWithoutCrossSigning of type bool",
    ],
    [
      "an index that is text",
      { Provider: "consul", ModifyIndex: "7" },
      "Request decode failed: json: cannot unmarshal string into Go struct field .Alias.RaftIndex.ModifyIndex of type uint64",
    ],
    [
      "an index below 0",
      { Provider: "consul", ModifyIndex: -1 },
      "Request decode failed: json: cannot unmarshal number -1 into Go struct field .Alias.RaftIndex.ModifyIndex of type uint64",
    ],
    [
      "an index above 64 bits",
      '{"Provider":"consul","ModifyIndex":18446744073709551616}',
      "Request decode failed: json: cannot unmarshal number 18446744073709551616 into Go struct field .Alias.RaftIndex.ModifyIndex of type uint64",
    ],
    [
      "nesting without end",
      `{"Provider":"consul","Config":${'{"a":'.repeat(5000)}`,
      "Request decode failed: exceeded max depth",
    ],
    [
      "an unknown provider",
      { Provider: "nosuch" },
      'could not initialize provider: unknown CA provider "nosuch"',
    ],
    [
      "a provider in another case",
      { Provider: "Consul" },
      'could not initialize provider: unknown CA provider "Consul"',
    ],
    [
      "a provider with the name of a property",
      { Provider: "constructor" },
      'could not initialize provider: unknown CA provider "constructor"',
    ],
    ["no provider", {}, 'could not initialize provider: unknown CA provider ""'],
    [
      "a State",
      { Provider: "consul", State: { a: "b" } },
      "Provider State is read-only. It must be omitted or identical to the current value",
    ],
    [
      "another provider and a kept key",
      { Provider: "nosuch", Config: { PrivateKey: "hidden" } },
      'could not initialize provider: unknown CA provider "nosuch"',
    ],
  ];
  for (const [name, body, says] of bodies)
    it(`PUT /v1/connect/ca/configuration answers 400 to ${name}`, async () => {
      await refuses(server, put(body), 400, says);
    });

  for (const { name, config, says } of BAD_VALUES)
    it(`PUT /v1/connect/ca/configuration answers 400 to ${name}`, async () => {
      await refuses(server, put({ Provider: "consul", Config: config }), 400, says);
    });

  let roots: BadConfiguration[] | undefined;
  badRoots("11111111-2222-3333-4444-555555555555.consul").forEach(({ name }, at) => {
    it(`PUT /v1/connect/ca/configuration answers 400 to ${name}`, async () => {
      roots ??= badRoots(server.trustDomain);
      const { config = {}, says = "" } = roots[at] ?? {};
      const answer = await refuses(server, put({ Provider: "consul", Config: config }), 400, says);
      for (const line of `${config.PrivateKey}`
        .split("\n")
        .filter((text) => text.length > 40 && !text.startsWith("--")))
        assert.ok(
          !answer.body.includes(line.slice(0, 20)) && !server.stdout().includes(line.slice(0, 20)),
          "the key shows",
        );
    });
  });

  it("PUT /v1/connect/ca/configuration answers 409 to a stale ModifyIndex, also if it would rotate", async () => {
    const { key, certificate } = makeRoot(server.trustDomain);
    for (const Config of [
      { LeafCertTTL: "60h" },
      { PrivateKeyBits: 384 },
      { PrivateKey: key, RootCert: certificate },
    ])
      for (const ModifyIndex of [999, 2 ** 53])
        await refuses(
          server,
          put({ Provider: "consul", Config, ModifyIndex }),
          409,
          "ModifyIndex did not match existing",
        );
  });

  it("PUT /v1/connect/ca/configuration works after all of that, and the old leaves' root stays listed", async () => {
    const { key, certificate } = makeRoot(server.trustDomain);
    const body = {
      Provider: "consul",
      Config: { PrivateKey: key, RootCert: certificate },
      ModifyIndex: 1,
    };
    assert.deepEqual([(await send(server.port, put(body)))?.status, server.stderr()], [200, ""]);
    const listed = await send(server.port, { method: "GET", target: "/v1/connect/ca/roots" });
    assert.equal((listed?.body ?? "").match(/"ID":/g)?.length, 2);
  });

  it("PUT /v1/connect/ca/rotate answers 400 while the root is supplied, and names the request to send instead", async () => {
    const says =
      /^Cannot rotate: the root was supplied by an operator\. Supply a new PrivateKey and RootCert in the CA configuration$/;
    await refuses(server, { method: "PUT", target: "/v1/connect/ca/rotate", body: "" }, 400, says);
  });
});
