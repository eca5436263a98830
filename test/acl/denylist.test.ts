/**
 * The denylist: which leaves entries match, which spellings are accepted, which entries are refused
 * because they could never match, and when entries expire.
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { AclRecords } from "../../src/acl/admin.ts";
import type { LeafSubject } from "../../src/core/acl/admin.ts";
import type { DenylistEntry } from "../../src/core/acl/types.ts";
import { fromBase64 } from "../../src/core/bytes.ts";
import { CaError } from "../../src/core/errors.ts";
import { keyIdsOf } from "../../src/core/x509/keys.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestAccess } from "./access.ts";

const HOUR = 3_600_000;
/** The generator of P-256 as a key (SEC 2 §2.4.2). */
const SPKI = fromBase64(
  "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==",
);
assert.ok(SPKI !== null);
const [SHA256 = "", SHA1 = "", CUT = "", BITS = "", CUT_KEY = ""] = keyIdsOf(SPKI);
const GIVEN = "0a:1b:2c:3d:4e:5f:60:71:82:93:a4:b5:c6:d7:e8:f9:0a:1b:2c:3d";

async function setup() {
  const access = await createTestAccess();
  const { clock } = access;
  const life = { horizonMs: 48 * HOUR, intermediateEnd: () => null };
  const leaves = {
    scope: () => ({ trustDomain: "abc.consul", datacenter: "dc1" }),
    horizonMs: () => life.horizonMs,
    intermediateEnd: () => null,
  };
  const keySets = { check: () => undefined };
  const over = (replica: typeof access.replica) =>
    new AclRecords({
      replica,
      clock,
      random: systemRandom,
      keySets,
      reviews: keySets,
      leaves,
    });
  return {
    ...access,
    life,
    admin: over(access.replica),
    other: async () => over(await access.addReplica()),
  };
}

async function refusal(work: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof CaError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "it was not refused" });
}

const ID = "spiffe://abc.consul/ns/default/dc/dc1/svc/web";
const SUBJECT: LeafSubject = { spiffeId: ID, keys: [SPKI], subjectKeyId: GIVEN, serial: "2c:3d" };

describe("keyIdsOf()", () => {
  it("keyIdsOf() returns SHA-256 of the key, SHA-1 of its bits, and their SHA-256 cut to 160 bits, as openssl computes them", () => {
    // openssl pkey -pubin -outform DER | openssl sha256; ... | tail -c 65 | openssl sha1; ... |
    // openssl sha256
    const colons = (text: string) => (text.match(/../g) ?? []).join(":");
    assert.equal(SHA256, colons(createHash("sha256").update(SPKI).digest("hex")));
    assert.equal(SHA1, colons(createHash("sha1").update(SPKI.subarray(-65)).digest("hex")));
    assert.equal(
      CUT,
      colons(createHash("sha256").update(SPKI.subarray(-65)).digest("hex").slice(0, 40)),
    );
    assert.equal(BITS, colons(createHash("sha256").update(SPKI.subarray(-65)).digest("hex")));
    assert.equal(CUT_KEY, SHA256.slice(0, 59));
  });
});

describe("denylist entries", () => {
  const table: readonly [kind: DenylistEntry["kind"], value: string, denied: boolean][] = [
    ["spiffe-id", ID, true],
    ["spiffe-id", "SPIFFE://ABC.Consul/ns/default/dc/dc1/svc/web", true],
    ["spiffe-id", "spiffe://abc.consul/ap/default/ns/default/dc/dc1/svc/web", true],
    ["spiffe-id", "spiffe://ABC.consul/ap/Default/ns/default/dc/dc1/svc/web", true],
    ["spiffe-id", "spiffe://abc.consul/ns/default/dc/dc1/svc/*", true],
    ["spiffe-id", "spiffe://abc.consul/ap/default/ns/default/*", true],
    ["spiffe-id", "spiffe://abc.consul/ap/default/*", true],
    ["spiffe-id", "spiffe://ABC.consul/ns/*", true],
    ["spiffe-id", "spiffe://abc.consul/*", true],
    ["spiffe-id", "spiffe://abc.consul/agent/*", false],
    ["spiffe-id", "spiffe://abc.consul/gateway/mesh/*", false],
    ["spiffe-id", "spiffe://abc.consul/ns/default/dc/dc1/svc/we", false],
    ["spiffe-id", "spiffe://abc.consul/ns/default/dc/dc1/svc/web2", false],
    ["spiffe-id", "spiffe://abc.consul/ns/default/dc/dc1/svc/Web", false],
    ["key-id", SHA256, true],
    ["key-id", SHA1, true],
    ["key-id", CUT, true],
    ["key-id", BITS, true],
    ["key-id", CUT_KEY, true],
    ["key-id", GIVEN, true],
    ["key-id", SHA256.replaceAll(":", "").toUpperCase(), true],
    ["key-id", SHA1.toUpperCase(), true],
    ["key-id", SHA1.replace(/^../, "00"), false],
    ["serial", "2C:3D", true],
    ["serial", "2c3d", true],
    ["serial", "00:2c:3d", true],
    ["serial", "00002C3D", true],
    ["serial", "2c:3e", false],
  ];
  for (const [kind, value, denied] of table)
    it(`entryOf() ${denied ? "finds" : "does not find"} ${kind} ${value}`, async () => {
      const { admin } = await setup();
      assert.equal(admin.denylist.entryOf(SUBJECT), null);
      const { value: denial } = await admin.denylist.add({ kind, value, reason: "r" });
      assert.deepEqual(admin.denylist.entryOf(SUBJECT), denied ? denial : null);
      await admin.denylist.remove(denial.id);
      assert.equal(admin.denylist.entryOf(SUBJECT), null);
    });

  it("entryOf() finds a serial number that begins with a zero octet in DER", async () => {
    const { admin } = await setup();
    await admin.denylist.add({ kind: "serial", value: "ab:cd", reason: "" });
    assert.equal(admin.denylist.entryOf({ ...SUBJECT, serial: "00:ab:cd" })?.value, "ab:cd");
  });

  it("entryOf() finds a serial number that an earlier version stored with leading zero octets", async () => {
    const { admin, replica, clock } = await setup();
    const now = clock.now();
    const content: DenylistEntry = {
      id: "d",
      kind: "serial",
      value: "00:00:2c:3d",
      reason: "",
      createTime: now,
      expirationTime: now,
    };
    await replica.write([{ kind: "denial", id: "d", replaces: null, content }]);
    assert.equal(admin.denylist.entryOf(SUBJECT)?.id, "d");
  });

  it("add() creates one entry for all spellings of a value", async () => {
    const { admin } = await setup();
    for (const [kind, values] of [
      [
        "spiffe-id",
        [
          ID,
          "SPIFFE://ABC.CONSUL/ns/default/dc/dc1/svc/web",
          "spiffe://abc.consul/ap/default/ns/default/dc/dc1/svc/web",
        ],
      ],
      ["serial", ["0a:1b", "000a1b", "0A1B", "00:0A:1B"]],
      ["key-id", [SHA1, SHA1.toUpperCase(), SHA1.replaceAll(":", "")]],
    ] as const) {
      const ids = new Set<string>();
      for (const value of values)
        ids.add((await admin.denylist.add({ kind, value, reason: "" })).value.id);
      assert.equal(ids.size, 1, kind);
    }
    assert.equal(admin.denylist.list().length, 3);
  });

  const never: readonly [kind: DenylistEntry["kind"], value: string, says: RegExp][] = [
    ["spiffe-id", "spiffe://abc.consul/ns/*/dc/dc1/svc/web*", /"\*" may only stand at its end/],
    ["spiffe-id", "spiffe://abc.consul/ns/*/x/*", /"\*" may only stand at its end/],
    [
      "spiffe-id",
      "spiffe://abc.consul/ns/default/dc/dc1/svc/web*",
      /"\*" may only stand at its end/,
    ],
    ["spiffe-id", "*", /"\*" may only stand at its end/],
    ["spiffe-id", "https://abc.consul/*", /must have 'spiffe' scheme/],
    ["spiffe-id", "spiffe://abc.consul/../*", /".." is a dot segment/],
    ["spiffe-id", "spiffe://abc.consul//*", /"" is empty/],
    ["spiffe-id", "spiffe://abc.consul/ns/default/dc/dc1/svc/w%65b", /must not be percent-encoded/],
    ["spiffe-id", "spiffe://abc.consul/ns/def%61ult/*", /must not be percent-encoded/],
    [
      "spiffe-id",
      "spiffe://abc.consul/ns/default/dc/dc1/svc/w~b",
      /Invalid service: "w~b" has a character/,
    ],
    ["spiffe-id", "spiffe://abc.consul/ns/default/dc/dc1/svc/web/", /not in the expected format/],
    ["spiffe-id", "spiffe://abc.consul/NS/default/dc/dc1/svc/web", /not in the expected format/],
    [
      "spiffe-id",
      "spiffe://abc.consul:443/ns/default/dc/dc1/svc/web",
      /not in the expected format/,
    ],
    ["spiffe-id", "spiffe://abc.consul", /it is the ID of the CA itself/],
    [
      "spiffe-id",
      "spiffe://other.consul/ns/default/dc/dc1/svc/web",
      /trust domain other.consul, and this CA signs for abc.consul only/,
    ],
    ["spiffe-id", "spiffe://other.consul/*", /trust domain other.consul/],
    [
      "spiffe-id",
      "spiffe://abc.consul/ns/default/dc/dc2/svc/web",
      /datacenter dc2, and this CA signs for dc1 only/,
    ],
    ["spiffe-id", "spiffe://abc.consul/agent/client/dc/DC1/*", /datacenter DC1/],
    [
      "spiffe-id",
      "spiffe://abc.consul/ns/other/dc/dc1/svc/web",
      /Enterprise only.Provided namespace is other/,
    ],
    ["spiffe-id", "spiffe://abc.consul/ns/def/*", /Enterprise only.Provided namespace is def/],
    [
      "spiffe-id",
      "spiffe://abc.consul/ap/east/ns/default/dc/dc1/svc/web",
      /Enterprise only.*partition is east/,
    ],
    ["spiffe-id", "spiffe://abc.consul/ap/east/*", /no identity begins with "\/ap\/east\/"/],
    ["spiffe-id", "spiffe://abc.consul/svc/*", /no identity begins with "\/svc\/"/],
    ["spiffe-id", "spiffe://abc.consul/ns/default/dc/dc1/svc/web/*", /no identity begins with/],
    ["spiffe-id", `${ID}${"b".repeat(1024)}`, /longer than the 1024 characters of a leaf's/],
    ["key-id", "xyz", /octets of two hexadecimal digits/],
    ["key-id", "0a1", /octets of two hexadecimal digits/],
    ["key-id", "0a:1b", /20 octets \(SHA-1\) or 32 \(SHA-256\), this one has 2/],
    ["key-id", SHA1.slice(3), /this one has 19/],
    ["key-id", `${SHA256}:00`, /this one has 33/],
    ["serial", "", /octets of two hexadecimal digits/],
    ["serial", "0a:1b:", /octets of two hexadecimal digits/],
    ["serial", "0x0a1b", /octets of two hexadecimal digits/],
    ["serial", "-1", /octets of two hexadecimal digits/],
    ["serial", "00", /it is zero/],
    ["serial", "01".repeat(21), /more than 20 octets/],
  ];
  for (const [kind, value, says] of never)
    it(`add() refuses ${kind} ${JSON.stringify(value.slice(0, 80))}, which could never match`, async () => {
      const { admin, replica } = await setup();
      const { code, message } = await refusal(() =>
        admin.denylist.add({ kind, value, reason: "" }),
      );
      assert.match(code, /^(request_malformed|spiffe_id_malformed|profile_violation)$/);
      assert.match(message, says);
      assert.equal(replica.denylist.size, 0);
    });

  it("add() replaces the entry of the same value, which is deleted once its expiry is confirmed", async () => {
    const { admin, clock, replica, other } = await setup();
    const elsewhere = await other();
    const first = await admin.denylist.add({ kind: "key-id", value: SHA1, reason: "one" });
    const second = await admin.denylist.add({
      kind: "key-id",
      value: SHA1.toUpperCase(),
      reason: "two",
    });
    assert.equal(second.value.id, first.value.id);
    assert.deepEqual(admin.denylist.list(), [second]);
    assert.equal(elsewhere.denylist.entryOf(SUBJECT), null);
    assert.equal((await other()).denylist.entryOf(SUBJECT)?.reason, "two");
    clock.advance(48 * HOUR - 1);
    const confirmed = clock.now();
    clock.advance(1);
    // The clock by itself does not end an entry: it may be ahead for a moment.
    assert.equal(admin.denylist.entryOf(SUBJECT)?.reason, "two");
    assert.deepEqual(admin.denylist.list(), [second]);
    assert.equal(await admin.collect(confirmed), 0);
    assert.equal(await admin.collect(clock.now()), 1);
    assert.equal(admin.denylist.entryOf(SUBJECT), null);
    assert.deepEqual(admin.denylist.list(), []);
    assert.equal(replica.denylist.size, 0);
    assert.equal((await refusal(() => admin.denylist.remove(first.value.id))).code, "not_found");
  });

  it("entryOf() finds an entry for longer if leaves become longer after it was created", async () => {
    const { admin, clock, life } = await setup();
    const { value } = await admin.denylist.add({ kind: "spiffe-id", value: ID, reason: "" });
    life.horizonMs = 720 * HOUR;
    clock.advance(48 * HOUR);
    assert.equal(admin.denylist.entryOf(SUBJECT)?.id, value.id);
    assert.equal(
      admin.denylist.list()[0]?.value.expirationTime.getTime(),
      value.createTime.getTime() + 720 * HOUR,
    );
    assert.equal(await admin.collect(clock.now()), 0);
    clock.advance(672 * HOUR);
    assert.equal(await admin.collect(clock.now()), 1);
    assert.equal(admin.denylist.entryOf(SUBJECT), null);
  });

  it("entryOf() finds an entry no shorter if leaves become shorter", async () => {
    const { admin, clock, life } = await setup();
    await admin.denylist.add({ kind: "spiffe-id", value: ID, reason: "" });
    life.horizonMs = HOUR;
    clock.advance(48 * HOUR - 1);
    assert.equal(await admin.collect(clock.now()), 0);
    assert.ok(admin.denylist.entryOf(SUBJECT));
  });
});
