/**
 * Leaves that a server answers: which are refused and why, and what becomes of the one that is held;
 * and a clock that was set wrong.
 * @module
 */
import "reflect-metadata";
import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import type { ClientError } from "../../src/client/errors.ts";
import type { LeafIdentity } from "../../src/client/leaf-check.ts";
import type { LeafSource } from "../../src/client/leaf-source.ts";
import type { X509Svid } from "../../src/client/svid.ts";
import type { Clock } from "../../src/core/ports/clock.ts";
import { KEY_USAGE, pemOf } from "../../src/core/x509/certificate.ts";
import { NOW } from "../core/x509/cas.ts";
import { basic, makeOddCa, usage } from "../core/x509/odd-certificates.ts";
import { URI } from "../core/x509/requests.ts";
import { createFakeClock, createSeededRandom } from "../fakes/clock.ts";
import { eventually, Parts, pass, passFor, until } from "./agent-parts.ts";
import { ForgedCa, type Forgery, namesOf, SIGN } from "./forged-ca.ts";

const HOUR = 3_600_000;
const DNS = ["web", "web.service.consul"];
const IPS = [Uint8Array.of(10, 0, 0, 1), Uint8Array.of(...Array(15).fill(0), 1)];
const IP_TEXTS = ["10.0.0.1", "::1"];

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(identity: Partial<LeafIdentity> = {}, offsetMs: () => number = () => 0) {
  const ca = await ForgedCa.start();
  ends.push(() => ca.server.stop());
  const clock = createFakeClock(NOW);
  ca.now = () => clock.now();
  const own: Clock = {
    now: () => new Date(clock.now().getTime() + offsetMs()),
    sleep: (ms, signal) => clock.sleep(ms, signal),
  };
  const parts = new Parts({ servers: [ca.server.url], clock: own, random: createSeededRandom(1) });
  ends.push(() => parts.close());
  await parts.roots.start();
  return { ca, clock, parts, leaf: parts.leaf(identity) };
}

async function failureOf(leaf: LeafSource): Promise<ClientError> {
  await leaf.start();
  return (await until(leaf.failure)) as ClientError;
}

async function held(leaf: LeafSource): Promise<X509Svid> {
  await leaf.start();
  return (await until(leaf)) as X509Svid;
}

describe("a leaf with names", () => {
  const identity = { dnsNames: DNS, ipAddresses: IPS };

  it("that were asked for is used, in any order and case", async () => {
    const { ca, leaf } = await start({ ...identity, dnsNames: ["WEB.service.Consul", "web"] });
    ca.forgery = { leaf: namesOf([URI], DNS.toReversed(), IP_TEXTS.toReversed()) };
    assert.equal((await held(leaf)).spiffeId, URI);
    assert.equal(leaf.problem, null);
  });

  const NAMES: readonly (readonly [
    what: string,
    asked: Partial<LeafIdentity>,
    dnsNames: readonly string[],
    ips: readonly string[],
    reason: RegExp,
  ])[] = [
    [
      "one DNS name less",
      identity,
      DNS.slice(1),
      IP_TEXTS,
      /its DNS names are not the requested ones$/,
    ],
    ["no DNS name", identity, [], IP_TEXTS, /its DNS names are not the requested ones/],
    [
      "one DNS name more",
      identity,
      [...DNS, "api"],
      IP_TEXTS,
      /its DNS names are not the requested ones/,
    ],
    [
      "another DNS name",
      identity,
      ["web", "api.service.consul"],
      IP_TEXTS,
      /its DNS names are not the requested ones/,
    ],
    [
      "a wildcard",
      identity,
      ["web", "*.service.consul"],
      IP_TEXTS,
      /its DNS names are not the requested ones/,
    ],
    [
      "a name with a dot at its end",
      identity,
      ["web", "web.service.consul."],
      IP_TEXTS,
      /its DNS names are not the requested ones/,
    ],
    [
      "one address less",
      identity,
      DNS,
      ["10.0.0.1"],
      /its IP addresses are not the requested ones$/,
    ],
    [
      "one address more",
      identity,
      DNS,
      [...IP_TEXTS, "10.0.0.2"],
      /its IP addresses are not the requested ones/,
    ],
    [
      "another address",
      identity,
      DNS,
      ["10.0.0.2", "::1"],
      /its IP addresses are not the requested ones/,
    ],
    [
      "an address as a DNS name",
      identity,
      [...DNS, "10.0.0.1"],
      ["::1"],
      /its DNS names are not the requested ones/,
    ],
    [
      "the IPv4 address in IPv6",
      identity,
      DNS,
      ["::ffff:10.0.0.1", "::1"],
      /its IP addresses are not the requested ones/,
    ],
    [
      "DNS names though none was asked for",
      {},
      ["web"],
      [],
      /its DNS names are not the requested ones/,
    ],
    [
      "addresses though none was asked for",
      {},
      [],
      ["127.0.0.1"],
      /its IP addresses are not the requested ones/,
    ],
  ];
  for (const [what, asked, dnsNames, ips, reason] of NAMES)
    it(`with ${what} is refused`, async () => {
      const { ca, leaf } = await start(asked);
      ca.forgery = { leaf: namesOf([URI], dnsNames, ips) };
      const failure = await failureOf(leaf);
      assert.equal(failure.code, "unusable");
      assert.match(failure.message, reason);
      assert.equal(leaf.current, null);
    });
});

describe("a leaf", () => {
  const other = URI.replace("/web", "/api");
  const EXTENSIONS = namesOf([URI]).extensions;
  const CASES: readonly (readonly [what: string, forgery: Forgery, reason: RegExp])[] = [
    ["of another service", { leaf: namesOf([other]) }, /for the identity "spiffe:.*\/svc\/api"$/],
    [
      "of a service whose name only begins alike",
      { leaf: namesOf([`${URI}2`]) },
      /for the identity "spiffe:.*\/web2"$/,
    ],
    [
      "of another datacenter",
      { leaf: namesOf([URI.replace("/dc1/", "/dc2/")]) },
      /for the identity "spiffe:.*\/dc2\/svc\/web"$/,
    ],
    [
      "of a server",
      { leaf: namesOf([URI.replace(/\/ns\/.*/, "/agent/server/dc/dc1")]) },
      /for the identity "spiffe:.*\/agent\/server\/dc\/dc1"$/,
    ],
    [
      "of a client agent",
      { leaf: namesOf([URI.replace(/\/ns\/.*/, "/agent/client/dc/dc1/id/web")]) },
      /for the identity "spiffe:.*\/agent\/client\/dc\/dc1\/id\/web"$/,
    ],
    [
      "of another trust domain",
      { leaf: namesOf([URI.replace(".consul", ".other")]) },
      /trust domain/,
    ],
    ["without a URI", { leaf: namesOf([], ["web"]) }, /has 0 URIs/],
    ["with two URIs", { leaf: namesOf([URI, other]) }, /has 2 URIs/],
    ["that is a CA", { leaf: { extensions: { ...EXTENSIONS, basic: basic(true) } } }, /is a CA/],
    [
      "that may sign certificates",
      {
        leaf: {
          extensions: {
            ...EXTENSIONS,
            keyUsage: usage(KEY_USAGE.digitalSignature | KEY_USAGE.keyCertSign),
          },
        },
      },
      /key usage that only CA certificates have/,
    ],
    ["without an answer", { fields: { CertPEM: undefined } }, /CertPEM is invalid/],
    ["that is a number", { fields: { CertPEM: 5 } }, /CertPEM is invalid/],
    ["with a negative index", { fields: { ModifyIndex: -1 } }, /ModifyIndex is invalid/],
    ["that is too long", { chain: " ".repeat(256 * 1024) }, /answered more than 262144 octets/],
  ];
  for (const [what, forgery, reason] of CASES)
    it(`${what} is refused, and the one that is held stays until it ends`, async () => {
      const started = await start();
      const { ca, parts, leaf } = started;
      const before = await held(leaf);
      const signed = ca.server.count(SIGN);
      ca.forgery = forgery;
      await pass(started, () => ca.server.count(SIGN) > signed + 1, 100 * HOUR);
      assert.equal(leaf.current, before);
      await until(leaf.failure);
      assert.match(leaf.problem ?? "", /^No new leaf for service "web": /);
      assert.match(leaf.problem ?? "", reason);
      assert.ok(!parts.log.text.includes("BEGIN"), "PEM is in the log");
      ca.forgery = {};
      await pass(started, () => leaf.current !== before);
      assert.equal(leaf.problem, null);
    });

  it("of another service after the first, though the token decides, is refused", async () => {
    const started = await start({ service: null });
    const { ca, leaf } = started;
    const before = await held(leaf);
    assert.equal(before.spiffeId, URI);
    ca.forgery = { leaf: namesOf([other]) };
    await pass(started, () => leaf.problem !== null, 100 * HOUR);
    assert.match(
      leaf.problem ?? "",
      /the leaf before was for ".*\/web"; restart the agent to accept it/,
    );
    assert.equal(leaf.current, before);
  });

  it("is taken with a chain, and refused with one that does not lead to a root", async () => {
    const { ca, parts, leaf } = await start();
    const middle = await makeOddCa(ca.root, { subject: "CN=middle" });
    const stranger = await makeOddCa(null, { subject: "CN=root" });
    const lost = await makeOddCa(stranger, { subject: "CN=middle", key: middle });
    ca.forgery = { by: middle, chain: pemOf(middle.certificate) };
    assert.equal((await held(leaf)).chain.length, 2);
    for (const chain of ["", pemOf(lost.certificate)]) {
      ca.forgery = { by: middle, chain };
      const failure = await failureOf(parts.leaf({}));
      assert.match(failure.message, /it verifies under no published root$/);
    }
  });

  it("is renewed by its life if the server's hint is odd", async () => {
    for (const RenewAfter of ["soon", "", "9999-12-31T00:00:00Z", "2000-01-01T00:00:00Z"]) {
      const { ca, leaf } = await start();
      ca.forgery = { fields: { RenewAfter } };
      const { notBefore, notAfter } = await held(leaf);
      await eventually(() => leaf.nextAttempt !== null);
      const life = notAfter.getTime() - notBefore.getTime();
      const part = ((leaf.nextAttempt?.getTime() ?? 0) - notBefore.getTime()) / life;
      assert.ok(part >= 0.6 && part <= 0.9, `${RenewAfter}: ${part}`);
    }
  });
});

describe("a clock that is wrong", () => {
  it("and was set back: the leaf is served on, and none is requested until it is right", async () => {
    let off = 0;
    const started = await start({}, () => off);
    const { ca, parts, leaf } = started;
    const before = await held(leaf);
    await eventually(() => leaf.nextAttempt !== null);
    off = -2 * HOUR;
    await pass(started, () => leaf.problem !== null);
    assert.equal(leaf.current, before);
    await pass(started, () => parts.pool.clockProblem !== null);
    await until(leaf.failure);
    assert.equal(leaf.failure.current?.code, "not_in_force");
    assert.match(
      leaf.problem ?? "",
      /is not valid before .*; The clock of this machine is 7\d\d\d s behind/,
    );
    assert.match(parts.log.text, /A leaf is not valid yet, since the clock was set back/);
    const signed = ca.server.count(SIGN);
    await passFor(started, 50_000);
    assert.equal(ca.server.count(SIGN), signed);
    assert.equal(leaf.current, before);
    off = 0;
    await pass(started, () => leaf.problem === null);
    assert.equal(parts.pool.clockProblem, null);
    assert.notEqual(leaf.current, null);
  });

  it("and was set back by less than the age of the leaf: it is renewed by the new time", async () => {
    let off = 0;
    const started = await start({}, () => off);
    const { ca, leaf } = started;
    const before = await held(leaf);
    await eventually(() => leaf.nextAttempt !== null);
    const first = leaf.nextAttempt?.getTime() ?? 0;
    await pass(started, () => started.clock.now().getTime() > NOW.getTime() + 10 * HOUR, HOUR / 4);
    off = -HOUR;
    await pass(started, () => leaf.nextAttempt?.getTime() !== first);
    assert.equal(leaf.current, before);
    assert.equal(leaf.problem, null);
    assert.equal(ca.server.count(SIGN), 1);
  });

  it("and is ahead: a leaf that has expired by it is refused, and said why", async () => {
    const started = await start({}, () => 400 * 24 * HOUR);
    const { ca, parts, leaf } = started;
    // Roots that have expired by this clock verify nothing either.
    assert.notEqual(parts.roots.current, null);
    const failure = await failureOf(leaf);
    assert.equal(failure.code, "not_in_force");
    assert.match(
      leaf.problem ?? "",
      /it expired at .*; The clock of this machine is \d+ s ahead of the clock of the CA server/,
    );
    assert.equal(ca.server.count(SIGN), 1);
  });
});
