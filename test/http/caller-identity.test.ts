/**
 * The identity of a leaf whose CSR has no URI: the service that the request names, the one identity
 * of the token, or that of the leaf to be renewed. Rights, denials, names and the audit log go by
 * it as by a URI.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, createPrivateKey } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { importPKCS8, SignJWT } from "jose";
import { base64 } from "../../src/core/bytes.ts";
import { readPem } from "../../src/core/pem.ts";
import { craftCsr, csrPem } from "../core/x509/requests.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { until } from "../redis/server.ts";

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
const SIGN = "/v1/connect/ca/sign";
const RENEW = "/v1/connect/ca/renew";
const DENY = "/v1/connect/ca/deny";
const PEM_CHAIN = { Accept: "application/pem-certificate-chain" };
const NO_URI = opensslCsr(null);
const REMEDY = 'name the service with ?service= or "Service" in JSON';
const FORBIDDEN =
  "has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed";

interface Answer {
  readonly status: number;
  readonly text: string;
}

class Client {
  readonly #server: ServerProcess;
  constructor(server: ServerProcess) {
    this.#server = server;
  }

  async call(
    method: string,
    path: string,
    body: string,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const answer = await fetch(`${this.#server.url}${path}`, { method, body, headers });
    return { status: answer.status, text: await answer.text() };
  }

  /** @param csr a CSR, or a body in JSON. @param secret "" for no token. */
  sign(csr: string, query = "", secret = MANAGEMENT, headers: Record<string, string> = {}) {
    const token = secret === "" ? {} : { "X-Consul-Token": secret };
    return this.call("PUT", `${SIGN}${query}`, csr, { ...token, ...headers });
  }

  async token(body: Record<string, unknown>): Promise<string> {
    const { status, text } = await this.call("PUT", "/v1/acl/token", JSON.stringify(body), {
      "X-Consul-Token": MANAGEMENT,
    });
    assert.equal(status, 200, text);
    return (JSON.parse(text) as { SecretID: string }).SecretID;
  }

  uri(path: string): string {
    return `spiffe://${this.#server.trustDomain}${path}`;
  }

  service(name: string): string {
    return this.uri(`/ns/default/dc/dc1/svc/${name}`);
  }
}

function gets({ status, text }: Answer, uri: string): void {
  assert.equal(status, 200, text);
  const leaf = JSON.parse(text) as Record<string, string>;
  assert.equal(leaf.ServiceURI ?? leaf.AgentURI, uri);
}

function refuses({ status, text }: Answer, expected: number, says: string | RegExp): void {
  if (typeof says === "string") assert.equal(text, says);
  else assert.match(text, says);
  assert.equal(status, expected);
}

const json = (fields: Record<string, unknown>, csr = NO_URI.csr) =>
  JSON.stringify({ CSR: csr, ...fields });

describe("PUT /v1/connect/ca/sign without a URI in the CSR, with access control", () => {
  let server: ServerProcess;
  let client: Client;
  let folder: string;
  const log = () =>
    readFileSync(join(folder, "audit.log"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-identity-"));
    server = await startServer({
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
      MESHCA_AUDIT: join(folder, "audit.log"),
    });
    client = new Client(server);
  });
  after(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  it("takes the service of the query, and that of the body", async () => {
    gets(await client.sign(NO_URI.csr, "?service=web"), client.service("web"));
    gets(await client.sign(json({ Service: "web" })), client.service("web"));
    gets(await client.sign(json({ service: "web" }), "?service=web"), client.service("web"));
    const [block] = readPem(NO_URI.csr);
    const der = await fetch(`${server.url}${SIGN}?service=web`, {
      method: "PUT",
      body: block?.bytes ?? assert.fail(),
      headers: { "X-Consul-Token": MANAGEMENT },
    });
    gets({ status: der.status, text: await der.text() }, client.service("web"));
    refuses(
      await client.sign(json({ Service: "web" }), "?service=api"),
      400,
      'Cannot sign leaf: Service is given as "web" and as "api", in the body or the query; send one of them',
    );
    refuses(
      await client.sign(json({ Service: "web", service: "web" })),
      400,
      /has the key Service more than once/,
    );
    for (const value of [1, true, ["web"], { a: 1 }])
      refuses(
        await client.sign(json({ Service: value })),
        400,
        "Cannot sign leaf: Service in the body must be a string",
      );
    gets(await client.sign(json({ Service: null }), "?Service=web"), client.service("web"));
    gets(await client.sign(NO_URI.csr, "?SERVICE=web&service=web"), client.service("web"));
    gets(await client.sign(NO_URI.csr, "?service=web&service=web"), client.service("web"));
    for (const query of ["?Service=web&service=api", "?service=web&service=api"])
      refuses(
        await client.sign(NO_URI.csr, query),
        400,
        'Cannot sign leaf: Service is given as "web" and as "api", in the body or the query; send one of them',
      );
  });

  it("ignores the subject of the CSR", async () => {
    const { csr } = opensslCsr(
      null,
      ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
      ["-subj", "/CN=api.service.consul/O=admin"],
    );
    const { text } = await client.sign(csr, "?service=web", MANAGEMENT, PEM_CHAIN);
    const [leaf] = readPem(text);
    assert.ok(leaf !== undefined && !Buffer.from(leaf.bytes).includes("api.service"));
    gets(await client.sign(csr, "?service=web"), client.service("web"));
  });

  it("takes a URI that is the service of the request, in any case of the trust domain, and refuses another one and names both", async () => {
    const { csr } = opensslCsr(`URI:${client.service("web")}`);
    gets(await client.sign(csr, "?service=web"), client.service("web"));
    const upper = opensslCsr(
      `URI:SPIFFE://${server.trustDomain.toUpperCase()}/ns/default/dc/dc1/svc/web`,
    );
    gets(await client.sign(upper.csr, "?service=web"), client.service("web"));
    for (const other of ["api", "Web", "web.", "", "web/../api", "x".repeat(5000)])
      refuses(
        await client.sign(csr, `?service=${encodeURIComponent(other)}`),
        400,
        `Cannot sign leaf: the CSR is for "${client.service("web")}", and the request names the service ${JSON.stringify(other.slice(0, 1024))}`,
      );
    for (const path of ["/agent/client/dc/dc1/id/web", "/gateway/mesh/dc/dc1"])
      refuses(
        await client.sign(opensslCsr(`URI:${client.uri(path)}`).csr, "?service=web"),
        400,
        `Cannot sign leaf: the CSR is for "${client.uri(path)}", and the request names the service "web"`,
      );
    refuses(
      await client.sign(
        opensslCsr("URI:spiffe://other.consul/ns/default/dc/dc1/svc/web").csr,
        "?service=web",
      ),
      400,
      /^SPIFFE ID in CSR from a different trust domain: other\.consul/,
    );
    const two = `URI:${client.service("web")},URI:${client.service("api")}`;
    refuses(
      await client.sign(opensslCsr(two).csr, "?service=web"),
      400,
      "CSR SAN contains an invalid number of URIs: 2",
    );
  });

  for (const [what, name, says] of [
    [
      "an empty name",
      "",
      'Invalid service: "" is empty, which a segment of a SPIFFE ID must not be',
    ],
    ["a dot", ".", 'Invalid service: "." is a dot segment, which a SPIFFE ID must not have'],
    ["two dots", "..", 'Invalid service: ".." is a dot segment, which a SPIFFE ID must not have'],
    ["a slash", "web/api", `Invalid service: "web/api" ${FORBIDDEN}`],
    ["a path", "../../../agent/server/dc/dc1", /^Invalid service: /],
    ["a percent-encoded letter", "w%65b", `Invalid service: "w%65b" ${FORBIDDEN}`],
    ["a blank", "web ", `Invalid service: "web " ${FORBIDDEN}`],
    ["a letter outside ASCII", "wéb", `Invalid service: "wéb" ${FORBIDDEN}`],
    ["a letter that lower-cases into ASCII", "\u212a", /^Invalid service: /],
    ["a newline", "web\n", `Invalid service: "web\\n" ${FORBIDDEN}`],
    ["a NUL", "web\0", `Invalid service: "web\\u0000" ${FORBIDDEN}`],
    ["a question mark", "web?x", `Invalid service: "web?x" ${FORBIDDEN}`],
    ["a fragment", "web#x", `Invalid service: "web#x" ${FORBIDDEN}`],
    ["an asterisk", "*", `Invalid service: "*" ${FORBIDDEN}`],
    [
      "1025 characters",
      "x".repeat(1025),
      "Cannot sign leaf: the service is longer than 1024 characters",
    ],
    [
      "a SPIFFE ID that is too long",
      "x".repeat(1000),
      "Cannot sign leaf: the SPIFFE ID is longer than 1024 characters",
    ],
  ] as const)
    it(`refuses ${what} as service, in the body and in the query`, async () => {
      refuses(await client.sign(json({ Service: name })), 400, says);
      refuses(await client.sign(NO_URI.csr, `?service=${encodeURIComponent(name)}`), 400, says);
    });

  it("distinguishes services by case, as URIs do", async () => {
    gets(await client.sign(NO_URI.csr, "?service=Web"), client.service("Web"));
    const secret = await client.token({ ServiceIdentities: [{ ServiceName: "web" }] });
    refuses(
      await client.sign(NO_URI.csr, "?service=Web", secret),
      403,
      /lacks permission 'service:write' on "Web"$/,
    );
  });

  it("takes the one identity of the token: its service, or its node", async () => {
    const web = await client.token({ ServiceIdentities: [{ ServiceName: "web" }] });
    gets(await client.sign(NO_URI.csr, "", web), client.service("web"));
    const far = { ServiceName: "far", Datacenters: ["dc2"] };
    const here = await client.token({ ServiceIdentities: [far, { ServiceName: "web" }] });
    gets(await client.sign(NO_URI.csr, "", here), client.service("web"));
    const node = await client.token({ NodeIdentities: [{ NodeName: "n1", Datacenter: "dc1" }] });
    gets(await client.sign(NO_URI.csr, "", node), client.uri("/agent/client/dc/dc1/id/n1"));
    const names = opensslCsr("DNS:localhost,IP:127.0.0.1").csr;
    gets(await client.sign(names, "", node), client.uri("/agent/client/dc/dc1/id/n1"));
  });

  it("refuses a token with several identities, and names them", async () => {
    const several = await client.token({
      ServiceIdentities: [{ ServiceName: "web" }, { ServiceName: "api" }],
      NodeIdentities: [{ NodeName: "n1", Datacenter: "dc1" }],
    });
    refuses(
      await client.sign(NO_URI.csr, "", several),
      400,
      `Cannot sign leaf: the CSR has no URI, and the token has several identities: service "web", service "api", node "n1"; ${REMEDY}, or put the SPIFFE ID into the CSR as URI`,
    );
    gets(await client.sign(NO_URI.csr, "?service=api", several), client.service("api"));
    const many = await client.token({
      ServiceIdentities: Array.from({ length: 30 }, (_, i) => ({ ServiceName: `s${i}` })),
    });
    refuses(await client.sign(NO_URI.csr, "", many), 400, /service "s9" and 20 more; name the/);
  });

  it("refuses a token without an identity, and no token, and names what to send", async () => {
    const none = `CSR SAN contains an invalid number of URIs: 0; ${REMEDY}, use a token with one service identity or node identity, or put the SPIFFE ID into the CSR as URI`;
    const plain = await client.token({ Description: "none" });
    for (const secret of [plain, MANAGEMENT, ""])
      refuses(await client.sign(NO_URI.csr, "", secret), 400, none);
    refuses(
      await client.sign(NO_URI.csr, "?service=web", ""),
      403,
      /anonymous token lacks permission/,
    );
    refuses(await client.sign(NO_URI.csr, "", "unknown"), 403, "ACL not found");
  });

  it("gives no identity that the token has no right to, whatever names it", async () => {
    const web = await client.token({ ServiceIdentities: [{ ServiceName: "web" }] });
    const lacks = /lacks permission 'service:write' on "api"$/;
    refuses(await client.sign(NO_URI.csr, "?service=api", web), 403, lacks);
    refuses(await client.sign(json({ Service: "api" }), "", web), 403, lacks);
    const api = opensslCsr(`URI:${client.service("api")}`).csr;
    refuses(await client.sign(api, "", web), 403, lacks);
    refuses(await client.sign(api, "?service=web", web), 400, /^Cannot sign leaf: the CSR is for/);
    const rules = 'service "web" { policy = "deny" }';
    const made = await client.call(
      "PUT",
      "/v1/acl/policy",
      JSON.stringify({ Name: "no-web", Rules: rules }),
      { "X-Consul-Token": MANAGEMENT },
    );
    assert.equal(made.status, 200, made.text);
    const denied = await client.token({
      ServiceIdentities: [{ ServiceName: "web" }],
      Policies: [{ Name: "no-web" }],
    });
    refuses(
      await client.sign(NO_URI.csr, "", denied),
      403,
      /lacks permission 'service:write' on "web"$/,
    );
  });

  it("gives DNS names by the identity that results", async () => {
    const san = opensslCsr("DNS:localhost").csr;
    refuses(
      await client.sign(san, "?service=web"),
      400,
      `Cannot sign leaf for "${client.service("web")}": it is not allowed to have the DNS name "localhost": no service gets a name of loopback, of an agent or of a server`,
    );
    const own = opensslCsr("DNS:web.service.consul").csr;
    gets(await client.sign(own, "?service=web"), client.service("web"));
    refuses(await client.sign(own, "?service=api"), 400, /DNS name "web\.service\.consul"/);
    const web = await client.token({ ServiceIdentities: [{ ServiceName: "web" }] });
    gets(await client.sign(own, "", web), client.service("web"));
  });

  it("refuses a denied identity, also as the token's own, and records it in the audit log", async () => {
    const bad = await client.token({ ServiceIdentities: [{ ServiceName: "bad" }] });
    gets(await client.sign(NO_URI.csr, "", bad), client.service("bad"));
    const denied = JSON.stringify({ SPIFFEID: client.service("bad") });
    const put = await client.call("PUT", DENY, denied, { "X-Consul-Token": MANAGEMENT });
    assert.equal(put.status, 200, put.text);
    const says = "Permission denied: this SPIFFE ID is on the denylist";
    refuses(await client.sign(NO_URI.csr, "", bad), 403, says);
    refuses(await client.sign(NO_URI.csr, "?service=bad", bad), 403, says);
    const lines = () =>
      log()
        .filter(({ action, subject }) => action === "sign" && subject === client.service("bad"))
        .map(({ outcome, code }) => [outcome, code]);
    await until(async () => lines().length === 3);
    assert.deepEqual(lines(), [
      ["allowed", null],
      ["refused", "denylisted"],
      ["refused", "denylisted"],
    ]);
  });

  it("requires proof of possession, as for a CSR with a URI", async () => {
    const csr = csrPem(craftCsr({ attributes: [] }));
    refuses(
      await client.sign(csr, "?service=web"),
      400,
      "Cannot accept CSR: its signature does not verify with its own public key",
    );
  });

  it("PUT /v1/connect/ca/renew takes the identity of the leaf, and no other", async () => {
    const signed = await client.sign(NO_URI.csr, "?service=web", MANAGEMENT, PEM_CHAIN);
    const x5c = readPem(signed.text).map(({ bytes }) => base64(bytes));
    const pkcs8 = createPrivateKey(NO_URI.key).export({ type: "pkcs8", format: "pem" }).toString();
    const key = await importPKCS8(pkcs8, "ES256");
    const renew = async (csr: string, query = "", body = csr) => {
      const [block] = readPem(csr);
      const hash = createHash("sha256").update(block?.bytes ?? assert.fail());
      const jwt = await new SignJWT({
        aud: `spiffe://${server.trustDomain}`,
        iat: Math.floor(Date.now() / 1000),
        csr: hash.digest("base64url"),
      })
        .setProtectedHeader({ alg: "ES256", x5c })
        .sign(key);
      return client.call("PUT", `${RENEW}${query}`, body, { Authorization: `Bearer ${jwt}` });
    };
    const next = opensslCsr(null).csr;
    gets(await renew(next), client.service("web"));
    gets(await renew(next, "?service=web"), client.service("web"));
    gets(await renew(next, "", json({ Service: "web" }, next)), client.service("web"));
    const other =
      "Permission denied: cannot renew: the request is for another identity than the leaf's";
    refuses(await renew(next, "?service=api"), 403, other);
    refuses(await renew(next, "", json({ Service: "api" }, next)), 403, other);
    refuses(await renew(opensslCsr(`URI:${client.service("api")}`).csr), 403, other);
    refuses(
      await renew(opensslCsr(`URI:${client.service("web")}`).csr, "?service=api"),
      400,
      /^Cannot sign leaf: the CSR is for "[^"]+\/svc\/web", and the request names the service "api"$/,
    );
    refuses(
      await client.call("PUT", `${RENEW}?service=web`, next),
      403,
      /no proof of the leaf's key/,
    );
  });
});

describe("PUT /v1/connect/ca/sign without a URI in the CSR, without access control", () => {
  it("needs a service in the request", async () => {
    const server = await startServer({});
    try {
      const client = new Client(server);
      gets(await client.sign(NO_URI.csr, "?service=web", ""), client.service("web"));
      const none = `CSR SAN contains an invalid number of URIs: 0; ${REMEDY}, or put the SPIFFE ID into the CSR as URI`;
      refuses(await client.sign(NO_URI.csr, "", ""), 400, none);
      refuses(await client.sign(opensslCsr("DNS:web").csr, "", ""), 400, none);
    } finally {
      await server.stop();
    }
  });
});
