/**
 * What the token of a caller of the agent allows: asked of a server, kept for a while, and never
 * guessed.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { CallerRights, type Right } from "../../src/agent/consul-api/caller-rights.ts";
import { AgentRefusal } from "../../src/agent/consul-api/refusal.ts";
import { FetchTransport } from "../../src/client/fetch-transport.ts";
import { ServerPool } from "../../src/client/server-pool.ts";
import { ServerTrust } from "../../src/client/server-trust.ts";
import { createTestCa, silentLog } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestApp } from "../fixtures/app.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";

const service = (name: string): Right => ({ resource: "service", level: "write", name });
const UNKNOWN = "00000000-1111-4222-8333-444444444444";

describe("rights of the agent's callers", () => {
  let server: Guarded;
  let rights: CallerRights;
  let asked: string[];
  /** What the server answers in place of its own answer; "away": nothing. */
  let instead: Response | "away" | null;
  let web: { secret: string; accessorId: string };

  const rightsOf = ({ app, clock }: Pick<Guarded, "app" | "clock">, areVerified = false) => {
    const transport = new FetchTransport((request) => {
      if (instead === "away") throw new Error("The connection was refused");
      asked.push(new URL(request.url).pathname);
      return instead?.clone() ?? app.fetch(request);
    });
    const trust = new ServerTrust({ readCaFile: null, pin: null, datacenter: null });
    const servers = ["http://127.0.0.1:8500"];
    const shared = { clock, random: systemRandom, log: silentLog };
    const pool = new ServerPool({ servers, trust, transport, ...shared });
    return new CallerRights({ pool, areVerified, ...shared });
  };
  const policy = async (rules: string) => {
    const { id } = await server.access.addPolicy(rules);
    const { token, secret } = await server.access.addToken({ policies: [id] });
    return { secret, accessorId: token.accessorId };
  };
  const refusal = async (token: string | null, name: string) => {
    const error = await rights.require(token, service(name)).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof AgentRefusal, String(error));
    return { status: error.status, text: error.message };
  };
  const questions = () => asked.filter((path) => path === "/v1/internal/acl/authorize").length;

  beforeEach(async () => {
    server = await guarded();
    asked = [];
    instead = null;
    rights = rightsOf(server);
    web = await policy('service "web" { policy = "write" }');
  });

  it("a token with service:write on the name is let in, and no other", async () => {
    assert.equal(await rights.require(web.secret, service("web")), null);
    assert.deepEqual(await refusal(web.secret, "db"), {
      status: 403,
      text: `Permission denied: token with AccessorID '${web.accessorId}' lacks permission 'service:write' on "db"`,
    });
    const none =
      "Permission denied: anonymous token lacks permission 'service:write' on \"web\". The anonymous token is used implicitly when a request does not specify a token.";
    for (const token of [null, "", "anonymous"])
      assert.deepEqual(await refusal(token, "web"), { status: 403, text: none });
    for (const token of [UNKNOWN, "x".repeat(129), "a\nb: c", "ü"])
      assert.deepEqual(await refusal(token, "web"), { status: 403, text: "ACL not found" });
  });

  it("an answer is kept for 30 seconds, for its token and its name only", async () => {
    await rights.require(web.secret, service("web"));
    server.clock.advance(29_000);
    assert.equal(await rights.require(web.secret, service("web")), 29_000);
    assert.equal(questions(), 1);
    await refusal(null, "web");
    await refusal(UNKNOWN, "web");
    await refusal(web.secret, "db");
    assert.equal(questions(), 4);
    server.clock.advance(2000);
    assert.equal(await rights.require(web.secret, service("web")), null);
    assert.equal(questions(), 5);
  });

  it("a denial is kept for five seconds, so that a right that was given is used soon", async () => {
    const late = await policy("");
    await refusal(late.secret, "late");
    const { id } = await server.access.addPolicy('service "late" { policy = "write" }');
    await server.call("PUT", `/v1/acl/token/${late.accessorId}`, { Policies: [{ ID: id }] });
    server.clock.advance(4000);
    await refusal(late.secret, "late");
    server.clock.advance(2000);
    await rights.require(late.secret, service("late"));
  });

  it("a right that was taken away ends within 30 seconds", async () => {
    await rights.require(web.secret, service("web"));
    await server.call("DELETE", `/v1/acl/token/${web.accessorId}`, undefined);
    server.clock.advance(31_000);
    assert.deepEqual(await refusal(web.secret, "web"), { status: 403, text: "ACL not found" });
  });

  it("while the servers are away the last answer counts for five minutes", async () => {
    await rights.require(web.secret, service("web"));
    await refusal(web.secret, "db");
    instead = "away";
    server.clock.advance(299_000);
    assert.equal(await rights.require(web.secret, service("web")), 299_000);
    assert.equal((await refusal(web.secret, "db")).status, 403);
    server.clock.advance(2000);
    for (const name of ["web", "db"]) assert.equal((await refusal(web.secret, name)).status, 503);
  });

  it("before a server has answered nobody is let in", async () => {
    instead = "away";
    const { status, text } = await refusal(web.secret, "web");
    assert.equal(status, 503);
    assert.match(
      text,
      /^Cannot check what the token of the request allows: No CA server answered: /,
    );
    await assert.rejects(rights.isEnforced(), AgentRefusal);
  });

  it("without access control everybody is let in, also while the server is away", async () => {
    const open = await createTestApp({}, await createTestCa());
    rights = rightsOf(open);
    await rights.require(null, service("web"));
    await rights.require(UNKNOWN, service("db"));
    assert.equal(questions(), 1);
    assert.equal(await rights.isEnforced(), false);
    instead = "away";
    open.clock.advance(86_400_000);
    await rights.require(null, service("web"));
    assert.equal(await rights.isEnforced(), false);
  });

  it("access control that was turned on is noticed within 30 seconds", async () => {
    instead = isOff();
    await rights.require(null, service("web"));
    instead = null;
    server.clock.advance(31_000);
    assert.equal((await refusal(null, "web")).status, 403);
    assert.equal(await rights.isEnforced(), true);
  });

  const isOff = () => new Response("ACL support disabled", { status: 401 });

  it("once access control was on, a server over plain HTTP is not believed that it is off", async () => {
    await rights.require(web.secret, service("web"));
    instead = isOff();
    server.clock.advance(31_000);
    const { status, text } = await refusal(null, "web");
    assert.equal(status, 503);
    assert.match(text, /: a server answers that access control is off, which was on since the/);
    assert.equal(await rights.isEnforced(), true);
    // As while the servers are away.
    assert.equal(await rights.require(web.secret, service("web")), 31_000);
    server.clock.advance(300_000);
    assert.equal((await refusal(web.secret, "web")).status, 503);
    instead = null;
    await rights.require(web.secret, service("web"));
  });

  it("a server that TLS verifies is believed that access control was switched off", async () => {
    rights = rightsOf(server, true);
    await rights.require(web.secret, service("web"));
    instead = isOff();
    server.clock.advance(31_000);
    await rights.require(null, service("web"));
    assert.equal(await rights.isEnforced(), false);
  });

  for (const [what, response] of [
    ["a 401 of a proxy", () => new Response("Unauthorized", { status: 401 })],
    ["a 401 without a body", () => new Response(null, { status: 401 })],
    ["a page of HTML", () => new Response("<html></html>")],
    ["an empty list", () => new Response("[]")],
    ["two answers", () => new Response('[{"Allow":true},{"Allow":true}]')],
    ["Allow that is not a boolean", () => new Response('[{"Allow":"true"}]')],
    ["a redirect", () => new Response(null, { status: 302, headers: { Location: "/" } })],
    ["404", () => new Response("not here", { status: 404 })],
    ["500", () => new Response("fault", { status: 500 })],
    ["429", () => new Response("slow down", { status: 429 })],
  ] as const)
    it(`${what} lets nobody in`, async () => {
      instead = response();
      const { status } = await refusal(web.secret, "web");
      assert.equal(status, what === "429" ? 429 : 503);
    });

  it("concurrent requests of a token share one question", async () => {
    await Promise.all(Array.from({ length: 20 }, () => rights.require(web.secret, service("web"))));
    assert.equal(questions(), 1);
  });

  it("made-up tokens do not displace the answers about real ones", async () => {
    await rights.require(web.secret, service("web"));
    for (let i = 0; i < 1100; i++) await refusal(`made-up-${i}`, "web");
    instead = "away";
    server.clock.advance(60_000);
    assert.equal(await rights.require(web.secret, service("web")), 60_000);
  });

  it("after the clock was set back an answer is asked for again", async () => {
    const { clock } = server;
    const wall = { now: () => clock.now(), sleep: clock.sleep };
    rights = rightsOf({ app: server.app, clock: wall as Guarded["clock"] });
    await rights.require(web.secret, service("web"));
    clock.jump(-3_600_000);
    await rights.require(web.secret, service("web"));
    assert.equal(questions(), 2);
  });
});
