/**
 * The roots of an agent: listings that are refused whole, and what becomes of the roots that are held
 * when a server answers oddly.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, describe, it } from "node:test";
import { readRootsListing } from "../../src/client/roots-listing.ts";
import { RootsSource } from "../../src/client/roots-source.ts";
import type { TrustBundle } from "../../src/client/svid.ts";
import { FormatError } from "../../src/core/errors.ts";
import { readCertificatePem } from "../../src/core/x509/certificate.ts";
import { configuration, trustDomain } from "../fakes/ca.ts";
import { createSeededRandom } from "../fakes/clock.ts";
import { createTestApp, settle, type TestApp } from "../fixtures/app.ts";
import { makeSvid } from "../fixtures/svid.ts";
import { eventually, Parts, type PartsOptions, pass } from "./agent-parts.ts";
import { type Act, type Asked, ScriptedServer } from "./scripted-server.ts";

const ROOTS = "/v1/connect/ca/roots";

interface Listed {
  ID: string;
  RootCert: string;
}
interface Listing {
  ActiveRootID: string;
  TrustDomain: string;
  Roots: Listed[];
}

async function listingOf(app: Pick<TestApp, "fetch">): Promise<Listing> {
  return (await (await app.fetch(ROOTS)).json()) as Listing;
}

describe("readRootsListing()", () => {
  let good: Listing;
  let other: Listing;
  let leaf: string;
  before(async () => {
    const app = await createTestApp();
    await app.manager.configure(configuration({ PrivateKeyType: "ec", PrivateKeyBits: 384 }));
    good = await listingOf(app);
    other = await listingOf(await createTestApp());
    const [der] = (await makeSvid(app.manager, "web")).chain;
    const body = Buffer.from(der ?? []).toString("base64");
    leaf = `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`;
  });

  it("reads every root, the oldest first in whatever order they are listed", () => {
    const newest = good.ActiveRootID;
    const oldest = good.Roots.find(({ ID }) => ID !== newest)?.ID;
    for (const Roots of [good.Roots, good.Roots.toReversed()]) {
      const read = readRootsListing(JSON.stringify({ ...good, Roots }));
      assert.deepEqual(
        read.roots.map(({ id }) => id),
        [oldest, newest],
      );
      assert.equal(read.trustDomain, good.TrustDomain);
      assert.equal(read.activeRootId, newest);
    }
  });

  it("keeps the order of the listing without CreateIndex", () => {
    for (const CreateIndex of [undefined, null, "2"]) {
      const Roots = good.Roots.map((root) => ({ ...root, CreateIndex }));
      assert.deepEqual(
        readRootsListing(JSON.stringify({ ...good, Roots })).roots.map(({ id }) => id),
        good.Roots.map(({ ID }) => ID),
      );
    }
  });

  it("takes a root once, and a trust domain in lower case", () => {
    const TrustDomain = good.TrustDomain.toUpperCase();
    const twice = { ...good, TrustDomain, Roots: [...good.Roots, ...good.Roots] };
    const read = readRootsListing(JSON.stringify(twice));
    assert.equal(read.roots.length, 2);
    assert.equal(read.trustDomain, good.TrustDomain);
  });

  const first = ({ Roots }: Listing): Listed => Roots[0] as Listed;
  const withRoot = (change: Partial<Listed>): Listing => ({
    ...good,
    Roots: [...good.Roots.slice(1), { ...first(good), ...change }],
  });
  const CASES: readonly (readonly [what: string, make: () => unknown, reason: RegExp])[] = [
    ["no object", () => [], /has no valid/],
    ["null", () => null, /has no valid object/],
    ["no root", () => ({ ...good, Roots: [] }), /^the listing of roots has no root$/],
    ["no list of roots", () => ({ ...good, Roots: null }), /has no valid Roots/],
    ["no trust domain", () => ({ ...good, TrustDomain: "" }), /has no valid TrustDomain/],
    ["a path as trust domain", () => ({ ...good, TrustDomain: "../x" }), /no valid TrustDomain/],
    [
      "no active root",
      () => ({ ...good, ActiveRootID: "" }),
      /does not have the root that it names/,
    ],
    [
      "an active root that is not listed",
      () => ({ ...good, Roots: good.Roots.filter(({ ID }) => ID !== good.ActiveRootID) }),
      /does not have the root that it names as active/,
    ],
    [
      "a root that cannot be parsed",
      () =>
        withRoot({ RootCert: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }),
      /^the root "[0-9a-f:]+" cannot be read: /,
    ],
    ["a root without PEM", () => withRoot({ RootCert: "" }), /cannot be read/],
    [
      "two certificates as one root",
      () => withRoot({ RootCert: good.Roots.map(({ RootCert }) => RootCert).join("") }),
      /cannot be read: there must be exactly one PEM block/,
    ],
    [
      "a root of another ID",
      () => withRoot({ RootCert: first(other).RootCert }),
      /has another certificate than its ID$/,
    ],
    ["a root that is a number", () => ({ ...good, Roots: [5] }), /has no valid Roots/],
    [
      "more roots than any mesh has",
      () => ({ ...good, Roots: Array.from({ length: 101 }, () => first(good)) }),
      /has no valid Roots/,
    ],
  ];
  for (const [what, make, reason] of CASES)
    it(`refuses a listing with ${what}`, () => {
      assert.throws(
        () => readRootsListing(JSON.stringify(make())),
        (error) => error instanceof FormatError && reason.test(error.message),
      );
    });

  it("refuses a leaf as a root, and text that is no JSON", () => {
    const { id } = readCertificatePem(leaf);
    const listing = { ...good, Roots: [...good.Roots, { ID: id, RootCert: leaf }] };
    assert.throws(() => readRootsListing(JSON.stringify(listing)), /is not a CA certificate$/);
    for (const text of ["", "<html>", "{", "\u0000"])
      assert.throws(
        () => readRootsListing(text),
        /^FormatError: the listing of roots is not JSON$/,
      );
  });
});

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(options: Partial<PartsOptions> = {}) {
  const app = await createTestApp();
  const server = await new ScriptedServer(app).start();
  ends.push(() => server.stop());
  const parts = new Parts({
    servers: [server.url],
    clock: app.clock,
    random: createSeededRandom(1),
    ...options,
  });
  ends.push(() => parts.close());
  return { app, server, parts, roots: parts.roots };
}

/** Replaces the answers of the roots, also of the query that waits. */
function forge(server: ScriptedServer, act: (asked: Asked) => Act | Promise<Act>): void {
  server.script = (asked) => (asked.path.startsWith(ROOTS) ? act(asked) : "pass");
  server.drop();
}

/** What the CA answers now. */
const answerOf = (server: ScriptedServer) =>
  server.pass({ method: "GET", path: ROOTS, headers: { host: "127.0.0.1:8500" }, body: "" });

describe("RootsSource", () => {
  const ODD: readonly (readonly [
    what: string,
    make: (good: { status: number; headers: Record<string, string>; body: string }) => Act,
    reason: RegExp,
  ])[] = [
    ["a page", () => ({ status: 200, body: "<html>" }), /X-Consul-Index|is not JSON/],
    [
      "no index",
      ({ body }) => ({ status: 200, body }),
      /the response of the roots has no X-Consul-Index/,
    ],
    [
      "an index that is no number",
      ({ body, headers }) => ({
        status: 200,
        body,
        headers: { ...headers, "x-consul-index": "-1" },
      }),
      /has no X-Consul-Index/,
    ],
    ["500", () => ({ status: 500, body: "boom" }), /answered 500: boom/],
    ["403", () => ({ status: 403, body: "Permission denied" }), /refused \(403\)/],
    [
      "no root",
      ({ headers, body }) => ({
        status: 200,
        headers,
        body: JSON.stringify({ ...JSON.parse(body), Roots: [] }),
      }),
      /the listing of roots has no root/,
    ],
    [
      "another trust domain",
      ({ headers, body }) => ({
        status: 200,
        headers,
        body: JSON.stringify({ ...JSON.parse(body), TrustDomain: "other.consul" }),
      }),
      /is of the trust domain "other\.consul", not of "/,
    ],
    [
      "too much",
      ({ headers, body }) => ({ status: 200, headers, body: body + " ".repeat(1024 * 1024) }),
      /answered more than 1048576 octets/,
    ],
  ];
  for (const [what, make, reason] of ODD)
    it(`keeps its roots while a server answers ${what}, and says so`, async () => {
      const { app, server, parts, roots } = await start();
      await roots.start();
      const held = roots.current;
      let changes = 0;
      roots.subscribe(() => {
        changes++;
      });
      const good = await answerOf(server);
      forge(server, () => make(good));
      await pass(app, () => reason.test(roots.problem ?? ""));
      await pass(app, () => server.count(ROOTS) > 8);
      assert.equal(roots.current, held);
      assert.equal(changes, 0);
      assert.match(roots.problem ?? "", /^The roots cannot be read: /);
      forge(server, () => "pass");
      await pass(app, () => roots.problem === null);
      assert.equal(roots.current, held);
      const warnings = parts.log.lines.filter(({ message }) =>
        message.startsWith("Failed to read the roots"),
      );
      assert.ok(warnings.length <= 3, "a line for each reason, not for each query");
    });

  for (const [what, act, reason] of [
    ["a page", { status: 200, body: "<html>" }, /X-Consul-Index/],
    [
      "304",
      { status: 304, headers: { "x-consul-index": "7", etag: '"a"' } },
      /is 304, and no ETag was sent/,
    ],
    ["nothing", "reset", /cannot be reached/],
  ] as const)
    it(`has none while its first server answers ${what}, and asks on`, async () => {
      const { app, server, roots } = await start();
      server.script = () => act;
      const ready = roots.start();
      await pass(app, () => reason.test(roots.problem ?? ""));
      await pass(app, () => server.count(ROOTS) > 5);
      assert.equal(roots.current, null);
      assert.equal(roots.lastContact, null);
      forge(server, () => "pass");
      await pass(app, () => roots.current !== null);
      await ready;
      assert.equal(roots.problem, null);
    });

  it("takes an index that goes backwards only if it is answered again and again", async () => {
    const { app, server, parts, roots } = await start();
    const settings = { PrivateKeyType: "ec", PrivateKeyBits: 384 };
    const before = await answerOf(server);
    await app.manager.configure(configuration(settings));
    await roots.start();
    const newest = roots.current as TrustBundle;
    assert.equal(newest.roots.length, 2);
    // A replica behind a load balancer lags for two answers.
    let lagging = 2;
    forge(server, () => (lagging-- > 0 ? before : "pass"));
    await pass(app, () => lagging < 0);
    await settle();
    assert.equal(roots.current, newest);
    assert.doesNotMatch(parts.log.text, /went backwards/);
    // The state was restored from a backup.
    forge(server, () => before);
    await pass(app, () => roots.current !== newest);
    assert.equal(roots.current?.roots.length, 1);
    assert.ok((roots.current?.index ?? 0) < newest.index);
    assert.match(parts.log.text, /The index of the roots went backwards, as after a restore/);
  });

  it("asks at a bounded rate if a server does not hold its queries back", async () => {
    const { app, server, roots } = await start({ holdsBack: false });
    await roots.start();
    const good = await answerOf(server);
    forge(server, () => good);
    await pass(app, () => server.count(ROOTS) > 3, 100);
    const [from, began] = [server.count(ROOTS), app.clock.now().getTime()];
    await pass(app, () => server.count(ROOTS) >= from + 20, 100);
    const took = app.clock.now().getTime() - began;
    assert.ok(took >= 19 * 200, `20 queries in ${took} ms`);
  });

  it("shares one request of several that want the roots now, and sends the ETag", async () => {
    const { server, roots } = await start();
    await roots.start();
    const from = server.asked.length;
    const held = roots.current;
    await Promise.all([roots.refresh(), roots.refresh(), roots.refresh()]);
    const asked = server.asked.slice(from).filter(({ path }) => path === ROOTS);
    assert.equal(asked.length, 1);
    assert.notEqual(asked[0]?.headers["if-none-match"], undefined);
    assert.equal(roots.current, held);
  });

  it("follows a change that another query found, without a word lost", async () => {
    const { app, roots } = await start();
    await roots.start();
    const seen: number[] = [];
    roots.subscribe(() => seen.push(roots.current?.roots.length ?? 0));
    for (const PrivateKeyBits of [384, 521, 256]) {
      await app.manager.configure(configuration({ PrivateKeyType: "ec", PrivateKeyBits }));
      await roots.refresh();
      assert.equal(roots.current?.activeRootId, app.manager.require().active.id);
    }
    assert.deepEqual(seen, [2, 3, 4]);
  });

  it("reads the window of a root change and the default policy, within bounds", async () => {
    const { app, server, roots } = await start();
    await roots.start();
    const good = await answerOf(server);
    let headers: Record<string, string> = {};
    forge(server, () => ({ ...good, headers: { ...good.headers, ...headers } }));
    for (const [window, policy, ms, expected] of [
      ["90", "deny", 90_000, "deny"],
      ["99999999", "allow", 86_400_000, "allow"],
      ["-5", "sometimes", 30_000, "allow"],
      ["1e3", "", 30_000, "allow"],
    ] as const) {
      headers = { "x-meshca-renew-window": window, "x-consul-default-acl-policy": policy };
      await pass(app, () => roots.renewWindowMs === ms && roots.defaultPolicy === expected);
    }
  });

  it("demands the trust domain that is configured, from the first answer on", async () => {
    const app = await createTestApp();
    const server = await new ScriptedServer(app).start();
    ends.push(() => server.stop());
    const parts = new Parts({ servers: [server.url], clock: app.clock });
    ends.push(() => parts.close());
    const { pool, api, log } = parts;
    const source = (domain: string) =>
      new RootsSource({
        ...{ pool, api, cache: null, clock: app.clock, random: createSeededRandom(1), log },
        trustDomain: domain,
      });
    await assert.rejects(source("other.consul").refresh(), /not of "other\.consul"/);
    const own = source(trustDomain(app.manager));
    await own.refresh();
    assert.notEqual(own.current, null);
  });

  it("ends its query at close, and a start that still waits", async () => {
    const { server, roots, parts } = await start();
    server.script = () => "silence";
    const ready = roots.start();
    await eventually(() => server.asked.length > 0);
    await parts.close();
    await ready;
    assert.equal(roots.current, null);
  });
});
