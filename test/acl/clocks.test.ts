/**
 * Access control while a clock is wrong: rights expire by the clock, and nothing is deleted by the
 * clock only.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { providers } from "../../providers/index.ts";
import { AclRecords } from "../../src/acl/admin.ts";
import type { LeafSubject } from "../../src/core/acl/admin.ts";
import { DeletionClock } from "../../src/core/ca/deletion-looks.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { MemoryLooks } from "../../src/store/looks.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestAccess, type TestAccess } from "./access.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** An eighth of the default LeafCertTTL. */
const SPAN = 9 * HOUR;
const ID = "spiffe://0f0f0f0f-1111-2222-3333-444444444444.consul/ns/default/dc/dc1/svc/web";
const SUBJECT: LeafSubject = { spiffeId: ID, keys: [], subjectKeyId: null, serial: null };
const SCOPE = { trustDomain: "0f0f0f0f-1111-2222-3333-444444444444.consul", datacenter: "dc1" };

describe("records that seem to be expired", () => {
  let access: TestAccess;
  let admin: AclRecords;
  let looks: DeletionClock;

  beforeEach(async () => {
    access = await createTestAccess();
    const { replica, clock } = access;
    admin = new AclRecords({
      replica,
      clock,
      random: systemRandom,
      keySets: { check() {} },
      reviews: { check() {} },
      leaves: { scope: () => SCOPE, horizonMs: () => HOUR, intermediateEnd: () => null },
    });
    looks = new DeletionClock(
      { store: { now: async () => clock.now() }, looks: new MemoryLooks(), clock, providers },
      DEFAULT_POLICY,
    );
  });

  /** What the leader does each minute. @returns how much it deleted. */
  const collect = async () =>
    admin.collect((await looks.lookWith({ deadlines: [], spanMs: SPAN })).confirmed(SPAN));
  const live = async (ms: number) => {
    let deleted = 0;
    for (let left = ms; left > 0; left -= 600_000) {
      access.clock.advance(Math.min(left, 600_000));
      deleted += await collect();
    }
    return deleted;
  };
  const inAnHour = () => new Date(access.clock.now().getTime() + HOUR);
  const allowed = async (secret: string) =>
    (async () => access.authorizer.authorize(secret))().then(
      () => true,
      () => false,
    );

  it("a token is refused while a clock is past its expiry, and accepted once the clock is right", async () => {
    const { secret } = await access.addToken({ expirationTime: inAnHour() });
    await collect();
    access.clock.jump(7 * DAY);
    assert.equal(await live(600_000), 0);
    assert.equal(await allowed(secret), false);
    access.clock.jump(-7 * DAY);
    await collect();
    assert.equal(await allowed(secret), true);
    assert.equal(await live(HOUR + SPAN - 1_200_000), 0);
    assert.equal(await allowed(secret), false);
    assert.equal(await live(HOUR), 1);
    assert.equal(access.replica.tokens.size, 0);
  });

  it("a denylist entry applies while a clock is ahead and afterwards, until its expiry is confirmed", async () => {
    await admin.denylist.add({ kind: "spiffe-id", value: ID, reason: "stolen" });
    await collect();
    access.clock.jump(7 * DAY);
    await live(600_000);
    assert.equal(admin.denylist.entryOf(SUBJECT)?.reason, "stolen");
    access.clock.jump(-7 * DAY);
    assert.equal(await live(HOUR + SPAN - 1_200_000), 0);
    assert.equal(admin.denylist.entryOf(SUBJECT)?.reason, "stolen");
    assert.equal(await live(HOUR), 1);
    assert.equal(admin.denylist.entryOf(SUBJECT), null);
  });

  it("an id cannot be claimed again because a clock was ahead", async () => {
    const { replica } = access;
    assert.equal(await replica.claim("a jti", new Date(access.clock.now().getTime() + HOUR)), true);
    await collect();
    access.clock.jump(7 * DAY);
    await live(600_000);
    assert.equal(
      await replica.claim("a jti", new Date(access.clock.now().getTime() + HOUR)),
      false,
    );
    access.clock.jump(-7 * DAY);
    await live(600_000);
    assert.equal(
      await replica.claim("a jti", new Date(access.clock.now().getTime() + HOUR)),
      false,
    );
    await live(2 * HOUR + SPAN);
    assert.equal(await replica.claim("a jti", new Date(access.clock.now().getTime() + HOUR)), true);
  });
});
