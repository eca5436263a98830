/**
 * Garbage collection of access control by the leader, as it is composed: by looks at the store's
 * clock.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { AccessControl } from "../../src/compose/access-control.ts";
import { createAclMemory } from "../../src/compose/acl.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { createTestCa, serviceUri, type TestCa } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import { overriding } from "../fixtures/overriding.ts";
import { testPlatform, testSettings } from "../redis/replica.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** What a denial lasts at least: the default LeafCertTTL. */
const LIFE = 72 * HOUR;
/** An eighth of that. */
const SPAN = 9 * HOUR;

describe("collect()", () => {
  let ca: TestCa;
  let access: AccessControl;

  beforeEach(async () => {
    ca = await createTestCa();
    const { backend, clock, sealer, manager } = ca;
    const ports = backend.open(createCodec(sealer), "test");
    access = new AccessControl(testSettings(0), {
      platform: testPlatform(clock, new Map()),
      defaultPolicy: "deny",
      policy: DEFAULT_POLICY,
      store: ports.access,
      sealer,
      ca: manager,
      audit: null,
      lastSeen: null,
      address: "test",
      memory: createAclMemory(systemRandom),
    });
    await access.start();
  });

  const deny = () =>
    access.control.admin.denylist.add({
      kind: "spiffe-id",
      value: serviceUri(ca.manager, "web"),
      reason: "",
    });
  const live = async (ms: number) => {
    for (let left = ms; left > 0; left -= HOUR / 4) {
      ca.clock.advance(Math.min(left, HOUR / 4));
      await access.collect();
    }
  };
  const denials = () => access.control.admin.denylist.list().length;

  it("collect() deletes a denylist entry an eighth of a leaf life after its expiry, not by a clock that is ahead for a moment", async () => {
    const { value } = await deny();
    await access.collect();
    ca.clock.jump(30 * DAY);
    await live(HOUR);
    ca.clock.jump(-30 * DAY);
    await live(value.expirationTime.getTime() - ca.clock.now().getTime() + SPAN - HOUR / 4);
    assert.equal(denials(), 1);
    await live(HOUR);
    assert.equal(denials(), 0);
  });

  it("add() counts from the store's clock if the replica's own is behind it", async () => {
    const { manager, backend, sealer, clock } = await createTestCa({
      replicas: { announce: async () => [], leave: async () => undefined },
      store: overriding(ca.backend.open(createCodec(ca.sealer), "test").store, {
        now: async () => new Date(ca.clock.now().getTime() + 7 * DAY),
      }),
      backend: ca.backend,
      clock: ca.clock,
      sealer: ca.sealer,
      started: false,
    });
    await manager.refresh();
    await manager.heartbeat();
    const behind = new AccessControl(testSettings(0), {
      platform: testPlatform(clock, new Map()),
      defaultPolicy: "deny",
      policy: DEFAULT_POLICY,
      store: backend.open(createCodec(sealer), "behind").access,
      sealer,
      ca: manager,
      audit: null,
      lastSeen: null,
      address: "test",
      memory: createAclMemory(systemRandom),
    });
    await behind.start();
    const { value } = await behind.control.admin.denylist.add({
      kind: "spiffe-id",
      value: serviceUri(manager, "web"),
      reason: "",
    });
    assert.ok(value.expirationTime.getTime() >= clock.now().getTime() + 7 * DAY + LIFE);
  });
});
