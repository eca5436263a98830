/**
 * PUT /v1/connect/ca/sign-intermediate: what the state of the primary refuses, each with its reason
 * and without a record; and how long a denial of a datacenter's key lasts.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { NOBODY } from "../../src/core/ports/audit.ts";
import { MAX_INTERMEDIATES } from "../../src/core/state.ts";
import { type CaKey, generateCaKey } from "../../src/core/x509/authority.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { keyIdsOf } from "../../src/core/x509/keys.ts";
import { makeCaRequest, privateKeyPem } from "../../src/core/x509/request.ts";
import { type Ca, CLUSTER_ID, makeCa } from "../core/x509/cas.ts";
import { pair } from "../datacenters/pair.ts";
import { configuration, createTestCa, DEFAULT_BOOTSTRAP, trustDomain } from "../fakes/ca.ts";
import { settle } from "../fixtures/app.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";

const SIGN = "/v1/connect/ca/sign-intermediate";
const DENY = "/v1/connect/ca/deny";
const DAY = 86_400_000;

const newKey = () => generateCaKey({ type: "ec", bits: 256 });

/** The request that a secondary datacenter would make. */
async function requestOf(test: Guarded, key?: CaKey, name = "sec-test.consul"): Promise<string> {
  return makeCaRequest(key ?? (await newKey()), name, `spiffe://${trustDomain(test.manager)}`);
}

/** A CA whose root has a key that the test has. */
async function supplied(): Promise<{ readonly test: Guarded; readonly ca: Ca }> {
  const ca = await makeCa();
  const config = {
    ...DEFAULT_BOOTSTRAP.config,
    RootCert: pemOf(ca.certificate),
    PrivateKey: await privateKeyPem(ca.key.privateKey),
  };
  const bootstrap = { ...DEFAULT_BOOTSTRAP, clusterId: CLUSTER_ID, config };
  return { test: await guarded(await createTestCa({ bootstrap })), ca };
}

async function requireRefused(
  test: Guarded,
  csr: string,
  status: number,
  reason: RegExp,
  secret?: string,
): Promise<void> {
  const { document } = test.backend;
  const answer = await test.call("PUT", SIGN, csr, secret);
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.text, reason);
  assert.doesNotMatch(answer.text, /-----BEGIN/);
  assert.equal(test.backend.document, document);
}

async function sign(test: Guarded, csr: string): Promise<string> {
  const { status, text } = await test.call("PUT", SIGN, csr);
  assert.equal(status, 200, text);
  return (JSON.parse(text) as { CertPEM: string }).CertPEM;
}

const OURS = /^Cannot accept CSR: its public key is one of the CA's own$/;

describe("an intermediate for another datacenter is refused", () => {
  it("for the key of the root, active or retired", async () => {
    const { test, ca } = await supplied();
    const csr = await requestOf(test, ca.key);
    await requireRefused(test, csr, 400, OURS);
    await test.manager.configure(configuration({ ...DEFAULT_BOOTSTRAP.config }));
    assert.notEqual(test.manager.require().active.id, ca.certificate.id);
    await requireRefused(test, csr, 400, OURS);
  });

  it("for the subject of a CA of ours in other letters, which verifiers take for the same", async () => {
    const test = await guarded();
    const { subject } = new X509Certificate(test.manager.require().active.certificate.der);
    const csr = await requestOf(test, undefined, subject.replace("CN=", "").toUpperCase());
    await requireRefused(test, csr, 400, /its request has the subject of a CA of this datacenter$/);
  });

  it("once as many are recorded as there is room for, until the first of them has expired", async () => {
    const test = await guarded();
    const csr = await requestOf(test);
    const caller = { csr, caller: NOBODY, permit: () => undefined };
    await test.manager.signIntermediate(caller);
    test.clock.advance(DAY);
    await test.manager.heartbeat();
    for (let i = 1; i < MAX_INTERMEDIATES; i++) await test.manager.signIntermediate(caller);
    const [first] = test.manager
      .require()
      .state.intermediates.toSorted((a, b) => a.notAfter.getTime() - b.notAfter.getTime());
    assert.ok(first !== undefined);
    await requireRefused(
      test,
      csr,
      409,
      new RegExp(
        `^Cannot sign intermediate: ${MAX_INTERMEDIATES} intermediates of other datacenters are not expired; delete the token that requests too many, which the list of intermediates shows, or wait until ${first.notAfter.toISOString()}$`,
      ),
    );
    test.clock.advance(first.notAfter.getTime() - test.clock.now().getTime() + 1000);
    await test.manager.heartbeat();
    await sign(test, csr);
  });

  it("for a token that has half of all, so that one datacenter that takes none stops no other", async () => {
    const test = await guarded();
    const policy = await test.access.addPolicy('intermediate = "write"');
    const [one, other] = [
      await test.access.addToken({ policies: [policy.id] }),
      await test.access.addToken({ policies: [policy.id] }),
    ];
    const csr = await requestOf(test);
    const caller = { ...NOBODY, accessor: one.token.accessorId };
    for (let i = 0; i < MAX_INTERMEDIATES / 2; i++)
      await test.manager.signIntermediate({ csr, caller, permit: () => undefined });
    await requireRefused(
      test,
      csr,
      409,
      new RegExp(
        `^Cannot sign intermediate: 64 intermediates that the token ${one.token.accessorId} requested are not expired, half of those that can be recorded; see why its datacenter requests that many, then give it another token, or wait until \\d\\S+Z$`,
      ),
      one.secret,
    );
    const signed = await test.call("PUT", SIGN, csr, other.secret);
    assert.equal(signed.status, 200, signed.text);
  });

  it("under a root that has expired", async () => {
    const test = await guarded();
    const csr = await requestOf(test);
    test.clock.advance(3651 * DAY);
    await test.manager.heartbeat();
    await requireRefused(test, csr, 503, /^root expired: certificate expired, expiration date: /);
  });

  it("by a secondary, which names the primary", async () => {
    const { two } = await pair();
    const test = await guarded(two);
    await requireRefused(
      test,
      await requestOf(test),
      409,
      /^not the primary datacenter: ask datacenter dc1 for an intermediate$/,
    );
  });

  it("for a token that was deleted, or a key that was denied, while another change ran", async () => {
    for (const [revoke, reason] of [
      [
        async (test: Guarded, accessor: string) => {
          const deleted = await test.call("DELETE", `/v1/acl/token/${accessor}`, undefined);
          assert.equal(deleted.status, 200, deleted.text);
        },
        /^ACL not found$/,
      ],
      [
        async (test: Guarded, _: string, key: CaKey) => {
          const denied = await test.call("PUT", DENY, { KeyID: keyIdOf(key, "SHA-256") });
          assert.equal(denied.status, 200, denied.text);
        },
        /^Permission denied: this key is on the denylist$/,
      ],
    ] as const) {
      const test = await guarded();
      const policy = await test.access.addPolicy('intermediate = "write"');
      const { token, secret } = await test.access.addToken({ policies: [policy.id] });
      const running = Promise.withResolvers<void>();
      const first = test.manager.signIntermediate({
        ...{ csr: await requestOf(test), caller: NOBODY },
        permit: () => running.promise,
      });
      const key = await newKey();
      const second = test.call("PUT", SIGN, await requestOf(test, key), secret);
      await settle();
      await revoke(test, token.accessorId, key);
      running.resolve();
      await first;
      const { status, text } = await second;
      assert.equal(status, 403, text);
      assert.match(text, reason);
      assert.equal(test.manager.require().state.intermediates.length, 1);
    }
  });
});

/** An identifier of a key as the denylist takes it. */
function keyIdOf({ info }: CaKey, kind: "SHA-256" | "SHA-1"): string {
  const [sha256 = "", sha1 = ""] = keyIdsOf(info.spki);
  return kind === "SHA-256" ? sha256 : sha1;
}

describe("a denial of another datacenter's key", () => {
  for (const kind of ["SHA-256", "SHA-1"] as const)
    it(`by its ${kind} stops the next intermediate, and lasts until the last one for it ends`, async () => {
      const test = await guarded();
      const key = await newKey();
      const csr = await requestOf(test, key);
      await sign(test, csr);
      test.clock.advance(30 * DAY);
      await test.manager.heartbeat();
      const last = new X509Certificate(await sign(test, csr));
      test.clock.advance(30 * DAY);
      await test.manager.heartbeat();
      // One of another key that ends later.
      await sign(test, await requestOf(test));
      const value = keyIdOf(key, kind);
      const denied = await test.call("PUT", DENY, { KeyID: value });
      assert.equal(denied.status, 200, denied.text);
      const { ExpirationTime, Warning } = JSON.parse(denied.text) as {
        readonly ExpirationTime: string;
        readonly Warning: string;
      };
      assert.match(
        Warning,
        /^No further intermediate is signed for this key\. One that was signed/,
      );
      assert.ok(Warning.includes(`valid until ${ExpirationTime} at most`), Warning);
      const end = new Date(last.validTo).getTime();
      if (kind === "SHA-256") assert.equal(new Date(ExpirationTime).getTime(), end);
      // The record has SHA-256 only: it may be of any of its keys.
      else assert.ok(new Date(ExpirationTime).getTime() > end);
      const reason = /^Permission denied: this key is on the denylist$/;
      await requireRefused(test, csr, 403, reason);
      // The denial of the key, whichever way, outlives what was signed.
      test.clock.advance(end - test.clock.now().getTime() - 1000);
      await test.manager.heartbeat();
      await requireRefused(test, csr, 403, reason);
      // Others are signed.
      await sign(test, await requestOf(test));
    });

  it("has no warning if no intermediate was signed for the key", async () => {
    const test = await guarded();
    await sign(test, await requestOf(test));
    const { status, text } = await test.call("PUT", DENY, {
      KeyID: keyIdOf(await newKey(), "SHA-256"),
    });
    assert.deepEqual([status, JSON.parse(text).Warning], [200, undefined]);
  });

  it("is of one datacenter: an identity of another one is 400, and named", async () => {
    const test = await guarded();
    for (const id of [
      "ns/default/dc/dc2/svc/web",
      "agent/client/dc/dc2/id/a",
      "ns/default/dc/dc2/*",
    ]) {
      const SPIFFEID = `spiffe://${trustDomain(test.manager)}/${id}`;
      const { status, text } = await test.call("PUT", DENY, { SPIFFEID });
      assert.deepEqual(
        [status, text],
        [
          400,
          "Cannot add SPIFFE ID to the denylist: it is of the datacenter dc2, and this CA signs for dc1 only",
        ],
      );
    }
  });
});
