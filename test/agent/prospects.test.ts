/**
 * What the agent reports before it is too late: no valid root to verify a server by, and nothing to
 * log in with.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  loginProblem,
  ProspectsLog,
  trustProblem,
  type WayBack,
} from "../../src/agent/prospects.ts";
import { ServerTrust } from "../../src/client/server-trust.ts";
import { hex, sha256 } from "../../src/core/bytes.ts";
import { readCertificatePem } from "../../src/core/x509/certificate.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";

const SETTINGS: WayBack = {
  ...{ servers: ["https://ca.example:8501"], caFile: null, caPin: null },
  ...{ token: null, tokenFile: null, login: null },
  identities: [{ service: "web", dnsNames: [], ipAddresses: [], ttlMs: null }],
};
const EXPIRED = {
  trustExpiredAt: new Date("2026-06-01T12:00:00Z"),
  defaultPolicy: "deny",
} as const;

describe("trustProblem()", () => {
  const command =
    "meshca roots --pem --http-addr https://ca.example:8501 --server-pin sha256:FINGERPRINT";

  it("names the command that writes the CA file, which needs no restart", () => {
    const text = trustProblem({ ...SETTINGS, caFile: "/etc/ca.pem" }, EXPIRED) ?? "";
    assert.match(
      text,
      /^every root that verifies a server has expired, the last one at 2026-06-01T12:00:00\.000Z: /,
    );
    assert.ok(text.includes(`run ${command} > /etc/ca.pem with the fingerprint`), text);
    assert.match(text, /read again without a restart$/);
  });

  it("of a pinned agent names the restart", () => {
    const text = trustProblem({ ...SETTINGS, caPin: "00" }, EXPIRED) ?? "";
    assert.ok(text.includes(`start the agent with --ca-file FILE after ${command} > FILE`), text);
    assert.match(text, /, or with --ca-pin of the new root$/);
  });

  it("is null while a root is valid", () => {
    assert.equal(trustProblem(SETTINGS, { ...EXPIRED, trustExpiredAt: null }), null);
  });
});

describe("loginProblem()", () => {
  it("is there with access control and without a token and a login, before anything fails", () => {
    assert.match(
      loginProblem(SETTINGS, EXPIRED) ?? "",
      /^the agent has neither a token nor a login: .* one that expires cannot be replaced; give --token-file, or --login-auth-method with --login-token-file$/,
    );
  });

  for (const [what, settings, defaultPolicy] of [
    ["a token", { token: "a" }, "deny"],
    ["a token file", { tokenFile: "/a" }, "deny"],
    ["a login", { login: { authMethod: "a", tokenFile: "/a" } }, "deny"],
    ["no identity of its own", { identities: [] }, "deny"],
    ["no access control", {}, "allow"],
    ["no word of the servers yet", {}, null],
  ] as const)
    it(`is null with ${what}`, () => {
      assert.equal(loginProblem({ ...SETTINGS, ...settings }, { ...EXPIRED, defaultPolicy }), null);
    });
});

describe("ServerTrust.expiredAt()", () => {
  const rootUntil = (end: string) =>
    makeRoot("a.example", { validity: ["20200101000000Z", end] }).certificate;
  const [first, second] = ["20210101000000Z", "20220101000000Z"].map(rootUntil) as [string, string];
  const listed = (...pems: readonly string[]) => ({
    roots: pems.map((pem) => readCertificatePem(pem).der),
    trustDomain: "a.example",
  });
  const at = (text: string) => new Date(text);
  const URL_OF = new URL("https://ca.example:8501");

  it("is the end of the last root of the mesh and of the CA file", async () => {
    const trust = new ServerTrust({
      ...{ readCaFile: async () => second, pin: null, datacenter: null },
    });
    assert.equal(trust.expiredAt(at("2026-01-01T00:00:00Z")), null);
    trust.trustRoots(listed(first));
    assert.deepEqual(trust.expiredAt(at("2021-06-01T00:00:00Z")), at("2021-01-01T00:00:00Z"));
    // The file is read at the first contact.
    await trust.waysTo(URL_OF);
    assert.equal(trust.expiredAt(at("2021-06-01T00:00:00Z")), null);
    assert.deepEqual(trust.expiredAt(at("2023-01-01T00:00:00Z")), at("2022-01-01T00:00:00Z"));
    trust.trustRoots(listed(second, first));
    assert.deepEqual(trust.expiredAt(at("2023-01-01T00:00:00Z")), at("2022-01-01T00:00:00Z"));
  });

  it("is that of the pinned root, once a server has shown it", () => {
    const { der } = readCertificatePem(first);
    const pin = `sha256:${hex(sha256(der))}`;
    const trust = new ServerTrust({ readCaFile: null, pin, datacenter: null });
    assert.equal(trust.expiredAt(at("2023-01-01T00:00:00Z")), null);
    const listing = { trustDomain: "a.example", roots: [readCertificatePem(first)] };
    trust.ofPinned({ ...listing, activeRootId: "", droppedKeys: [] });
    assert.deepEqual(trust.expiredAt(at("2023-01-01T00:00:00Z")), at("2021-01-01T00:00:00Z"));
    trust.trustRoots(listed(second));
    assert.equal(trust.expiredAt(at("2021-06-01T00:00:00Z")), null);
  });
});

describe("ProspectsLog", () => {
  it("logs the beginning and the end of a problem once", () => {
    const lines: string[] = [];
    const write = (level: string) => (message: string) => lines.push(`${level} ${message}`);
    const log = new ProspectsLog({
      ...{ debug: write("debug"), info: write("info") },
      ...{ warn: write("warn"), error: write("error") },
    });
    for (const [trust, login] of [
      [null, "none"],
      ["expired", "none"],
      ["expired", "none"],
      [null, "none"],
      [null, null],
    ] as const)
      log.look(trust, login);
    assert.deepEqual(lines, [
      "warn A certificate that expires could not be replaced",
      "error No new connection to a server can be verified any more: certificates in use stay in use until they expire",
      "info Servers can be verified again, by a root that is valid",
    ]);
  });
});
