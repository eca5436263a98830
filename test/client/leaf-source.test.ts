/**
 * One identity's leaf over a real socket to a CA in this process, on a clock that the test moves.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { LoginCredentials, TokenCredentials } from "../../src/client/credentials.ts";
import type { ClientError } from "../../src/client/errors.ts";
import type { LeafSource } from "../../src/client/leaf-source.ts";
import type { X509Svid } from "../../src/client/svid.ts";
import type { Clock } from "../../src/core/ports/clock.ts";
import { configuration, createTestCa, DEFAULT_BOOTSTRAP } from "../fakes/ca.ts";
import { createSeededRandom } from "../fakes/clock.ts";
import { createTestApp, type TestApp } from "../fixtures/app.ts";
import { eventually, Parts, type PartsOptions, pass, passFor, until } from "./agent-parts.ts";
import { type Act, type Asked, ScriptedServer } from "./scripted-server.ts";

const SIGN = "/v1/connect/ca/sign";
const RENEW = "/v1/connect/ca/renew";
const HOUR = 3_600_000;

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function serve(app: TestApp): Promise<ScriptedServer> {
  const server = await new ScriptedServer(app).start();
  ends.push(() => server.stop());
  return server;
}

async function start(options: Partial<PartsOptions> = {}) {
  const app = await createTestApp();
  const server = await serve(app);
  const random = createSeededRandom(1);
  const parts = new Parts({ servers: [server.url], clock: app.clock, random, ...options });
  ends.push(() => parts.close());
  await parts.roots.start();
  return { app, server, parts, leaf: parts.leaf({ datacenter: null }) };
}

/** Replaces what the server does with a request to sign. */
function forge(server: ScriptedServer, act: (asked: Asked) => Act | Promise<Act>): void {
  server.script = (asked) => (asked.path === SIGN ? act(asked) : "pass");
}

async function failureOf(leaf: LeafSource): Promise<ClientError> {
  await leaf.start();
  return (await until(leaf.failure)) as ClientError;
}

async function held(leaf: LeafSource): Promise<X509Svid> {
  await leaf.start();
  return (await until(leaf)) as X509Svid;
}

describe("a leaf is refused", () => {
  it("of another key", async () => {
    const { server, parts, leaf } = await start();
    let first: Promise<Act> | null = null;
    forge(server, (asked) => {
      first ??= server.pass(asked);
      return first;
    });
    await held(leaf);
    const other = parts.leaf({ datacenter: null });
    const failure = await failureOf(other);
    assert.equal(failure.code, "unusable");
    assert.match(failure.message, /it is for another key/);
    assert.equal(other.current, null);
    assert.match(other.problem ?? "", /^No new leaf for service "web": The leaf is not used/);
  });

  it("of another service", async () => {
    const { server, leaf } = await start();
    forge(server, (asked) =>
      server.pass({
        ...asked,
        body: JSON.stringify({ ...JSON.parse(asked.body), Service: "api" }),
      }),
    );
    assert.match((await failureOf(leaf)).message, /it is for the identity "spiffe:.*\/svc\/api"/);
    assert.equal(leaf.current, null);
  });

  it("of another datacenter", async () => {
    const { server, parts } = await start();
    forge(server, (asked) =>
      server.pass({
        ...asked,
        body: JSON.stringify({ ...JSON.parse(asked.body), Service: "web" }),
      }),
    );
    const failure = await failureOf(parts.leaf({ datacenter: "dc2" }));
    assert.ok(["rejected", "unusable"].includes(failure.code), failure.message);
  });

  for (const [what, sameDomain, reason] of [
    ["of another trust domain", false, /is of the trust domain/],
    ["of a CA with other roots", true, /it verifies under no published root/],
  ] as const)
    it(what, async () => {
      const { app, server, leaf } = await start();
      const { clusterId } = app.manager.require().state;
      const bootstrap = { ...DEFAULT_BOOTSTRAP, clusterId: sameDomain ? clusterId : null };
      const stranger = await createTestApp({}, await createTestCa({ bootstrap, clock: app.clock }));
      const strange = await serve(stranger);
      forge(server, (asked) => strange.pass(asked));
      const failure = await failureOf(leaf);
      assert.equal(failure.code, "unusable");
      assert.match(failure.message, reason);
      assert.equal(leaf.current, null);
    });

  const pem = (label: string) => `-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`;
  for (const [what, text, reason] of [
    ["that is no PEM", "nothing", /has no certificate/],
    ["with a key in its chain", pem("PRIVATE KEY"), /not a certificate/],
    ["that is a broken certificate", pem("CERTIFICATE"), /cannot be read/],
  ] as const)
    it(what, async () => {
      const { server, leaf } = await start();
      forge(server, () => ({ status: 200, body: JSON.stringify({ CertPEM: text }) }));
      const failure = await failureOf(leaf);
      assert.equal(failure.code, "unusable");
      assert.match(failure.message, reason);
    });

  it("and the present one is kept until it expires", async () => {
    const { app, server, parts, leaf } = await start();
    const before = await held(leaf);
    forge(server, () => ({ status: 200, body: JSON.stringify({ CertPEM: pem("CERTIFICATE") }) }));
    await pass(app, () => leaf.problem !== null, HOUR);
    assert.equal(leaf.current, before);
    await pass(app, () => leaf.current === null, HOUR / 4);
    assert.ok(app.clock.now() >= before.notAfter);
    assert.match(parts.log.text, /A leaf expired without a new one; it is no longer served/);
    assert.ok(!parts.log.text.includes("BEGIN"), "no PEM in the log");
    server.script = () => "pass";
    await pass(app, () => leaf.current !== null);
    assert.equal(leaf.problem, null);
  });

  it("not valid by this machine's clock: no other is signed until the clocks agree", async () => {
    const app = await createTestApp();
    const server = await serve(app);
    let offMs = -2 * HOUR;
    const clock: Clock = {
      now: () => new Date(app.clock.now().getTime() + offMs),
      sleep: (ms, signal) => app.clock.sleep(ms, signal),
    };
    server.script = async (asked) => {
      const answer = await server.pass(asked);
      return { ...answer, headers: { ...answer.headers, date: app.clock.now().toUTCString() } };
    };
    const parts = new Parts({ servers: [server.url], clock });
    ends.push(() => parts.close());
    await parts.roots.start();
    const leaf = parts.leaf({ datacenter: null });
    assert.equal((await failureOf(leaf)).code, "not_in_force");
    assert.match(
      leaf.problem ?? "",
      /is not valid before .*The clock of this machine is 7\d\d\d s behind/,
    );
    await passFor(app, 30_000);
    assert.equal(server.count(SIGN), 1);
    offMs = 0;
    await pass(app, () => leaf.current !== null);
    assert.equal(leaf.problem, null);
  });
});

describe("a leaf is renewed", () => {
  it("between 60 and 90 % of its life, with a new key", async () => {
    const { app, leaf } = await start();
    const before = await held(leaf);
    const life = before.notAfter.getTime() - before.notBefore.getTime();
    await pass(app, () => leaf.current !== before, HOUR / 2);
    const part = (app.clock.now().getTime() - before.notBefore.getTime()) / life;
    assert.ok(part >= 0.6 && part < 0.92, String(part));
    assert.notDeepEqual(leaf.current?.privateKey, before.privateKey);
    assert.equal(leaf.current?.spiffeId, before.spiffeId);
  });

  it("in the window of a change of the active root", async () => {
    const { app, server, parts, leaf } = await start();
    const before = await held(leaf);
    await pass(app, () => server.asked.some(({ path }) => path.includes("index=")));
    await eventually(() => leaf.nextAttempt !== null);
    const planned = leaf.nextAttempt?.getTime() ?? 0;
    const began = app.clock.now().getTime();
    await app.manager.configure(configuration({ PrivateKeyType: "ec", PrivateKeyBits: 384 }));
    // The blocking query brings the roots, and the leaf is verified under them, while no time passes.
    await eventually(() => leaf.nextAttempt !== null && leaf.nextAttempt.getTime() !== planned);
    assert.equal(parts.roots.current?.roots.length, 2);
    await pass(app, () => leaf.current !== before);
    assert.ok(app.clock.now().getTime() - began <= parts.roots.renewWindowMs + 1000);
  });

  it("at once after the clock jumped past its end, as after a suspension", async () => {
    const { app, leaf } = await start();
    const before = await held(leaf);
    await eventually(() => leaf.nextAttempt !== null);
    app.clock.jump(100 * HOUR);
    await pass(app, () => leaf.current !== null && leaf.current !== before);
  });

  it("while servers are away it stays, and comes back when they do", async () => {
    const { app, server, leaf } = await start();
    const before = await held(leaf);
    await server.stop();
    await pass(app, () => /^No new leaf.*No CA server answered/.test(leaf.problem ?? ""), HOUR / 2);
    assert.equal(leaf.current, before);
    await server.start();
    await pass(app, () => leaf.current !== before);
    assert.equal(leaf.problem, null);
  });
});

describe("credentials", () => {
  const refusal: Act = {
    status: 403,
    body: "Permission denied",
    headers: { "content-type": "text/plain" },
  };
  const missing = () => new TokenCredentials(() => Promise.reject(new Error("ENOENT")));

  it("a token is sent, trimmed, and read again", async () => {
    let token = " one\n";
    const { app, server, leaf } = await start({
      credentials: () => new TokenCredentials(async () => token),
    });
    const before = await held(leaf);
    token = "two";
    await pass(app, () => leaf.current !== before, HOUR);
    const sent = server.asked.filter(({ path }) => path === SIGN);
    assert.deepEqual(
      sent.map(({ headers }) => headers["x-consul-token"]),
      ["one", "two"],
    );
  });

  it("that cannot be had: the leaf's key renews, and the problem says so", async () => {
    let gone = false;
    const { app, server, leaf } = await start({
      credentials: () => new TokenCredentials(async () => (gone ? "" : "one")),
    });
    const before = await held(leaf);
    gone = true;
    await pass(app, () => leaf.current !== before, HOUR);
    assert.ok(server.count(RENEW) >= 1);
    assert.match(leaf.problem ?? "", /renewed by its own key.*The token file is empty/);
  });

  it("that cannot be had: without a leaf there is none", async () => {
    const { server, leaf } = await start({ credentials: missing });
    assert.equal((await failureOf(leaf)).code, "credentials_unavailable");
    assert.equal(server.count(SIGN) + server.count(RENEW), 0);
  });

  it("that are refused do not fall back to the leaf's key, and the leaf ends", async () => {
    const { app, server, leaf } = await start({
      credentials: () => new TokenCredentials(async () => "one"),
    });
    await held(leaf);
    forge(server, () => refusal);
    await pass(app, () => leaf.current === null, HOUR / 4);
    assert.equal(server.count(RENEW), 0);
    assert.match(leaf.problem ?? "", /refused \(403\): Permission denied/);
  });

  it("without any, the leaf's key renews where signing is refused", async () => {
    const { app, server, leaf } = await start();
    const before = await held(leaf);
    forge(server, () => refusal);
    await pass(app, () => leaf.current !== before, HOUR);
    assert.equal(server.count(RENEW), 1);
    assert.equal(leaf.problem, null);
  });

  it("a login is shared, renewed once when its token is unknown, and ended at close", async () => {
    let logins = 0;
    let known = "token-1";
    const { server, parts, leaf } = await start({
      credentials: (api, clock, log) =>
        new LoginCredentials({ api, authMethod: "k8s", readJwt: async () => "jwt\n", clock, log }),
    });
    server.script = (asked) => {
      if (asked.path === "/v1/acl/login") {
        known = `token-${++logins}`;
        return { status: 200, body: JSON.stringify({ SecretID: known }) };
      }
      if (asked.path === "/v1/acl/logout") return { status: 200, body: "true" };
      if (asked.path !== SIGN || asked.headers["x-consul-token"] === known) return "pass";
      return { status: 403, body: "ACL not found", headers: { "content-type": "text/plain" } };
    };
    const second = parts.leaf({ service: "api", datacenter: null });
    await Promise.all([held(leaf), held(second)]);
    assert.equal(logins, 1);
    known = "none";
    await held(parts.leaf({ service: "db", datacenter: null }));
    assert.equal(logins, 2);
    await parts.credentials?.close();
    const out = server.asked.find(({ path }) => path === "/v1/acl/logout");
    assert.equal(out?.headers["x-consul-token"], "token-2");
    assert.ok(!parts.log.text.includes("token-"), "no token in the log");
  });

  it("a login that is refused does not fall back; one that gets no answer does", async () => {
    let answer: Act = { status: 200, body: JSON.stringify({ SecretID: "token-1" }) };
    const { app, server, parts, leaf } = await start({
      credentials: (api, clock, log) =>
        new LoginCredentials({ api, authMethod: "k8s", readJwt: async () => "jwt", clock, log }),
    });
    server.script = ({ path }) => (path === "/v1/acl/login" ? answer : "pass");
    const before = await held(leaf);
    const token = (await parts.credentials?.token()) ?? "";
    await parts.credentials?.forget(token);
    answer = { status: 503 };
    await pass(app, () => leaf.current !== before, HOUR);
    assert.ok(server.count(RENEW) >= 1);
    answer = refusal;
    const refused = /Login with auth method "k8s" failed: .*refused \(403\)/;
    await pass(app, () => refused.test(leaf.problem ?? ""), HOUR / 4);
    // A renewal that began before the refusal has ended by now.
    const renewals = server.count(RENEW);
    await pass(app, () => leaf.current === null, HOUR / 4);
    await pass(app, () => server.count("/v1/acl/login") > 5);
    assert.equal(server.count(RENEW), renewals);
    assert.match(leaf.problem ?? "", refused);
  });
});
