/**
 * The instant from which a rotation is possible that was refused for the length of its chain: it
 * works then, and not before.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { chainLength } from "../../../src/core/ca/chain-size.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import type { CaError } from "../../../src/core/errors.ts";
import { activeRoot } from "../../../src/core/state.ts";
import { configuration, createTestCa, type TestCa } from "../../fakes/ca.ts";
import { BOOTSTRAP, HOUR, replica, requireSigning, webCsr } from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const POLICY = { ...DEFAULT_POLICY, maxChainLength: 3 };
let csr: string;

before(() => {
  csr = webCsr();
});

/** The refusal of a rotation. */
const refusalOf = (manager: CertificateAuthority) =>
  manager.rotate(NOW).then(
    () => assert.fail("it was not refused"),
    (error: CaError) => {
      assert.equal(error.code, "budget_exceeded");
      return error;
    },
  );

/** The instant that a refused rotation names, which Retry-After must agree with. */
async function refusedUntil(
  manager: CertificateAuthority,
  { clock }: Pick<TestCa, "clock">,
): Promise<number> {
  const { message, retryAfterMs } = await refusalOf(manager);
  const at = new Date(
    /possible from (\S+) on, when an old root is pruned/.exec(message)?.[1] ?? "",
  ).getTime();
  assert.equal(at - clock.now().getTime(), retryAfterMs);
  return at;
}

/** Lets the leader do all that is due until an instant. */
async function leadUntil(
  manager: CertificateAuthority,
  { clock }: Pick<TestCa, "clock">,
  at: number,
): Promise<void> {
  for (;;) {
    const done = await manager.tick();
    if (done.kind !== "wait") continue;
    const left = at - clock.now().getTime();
    if (left <= 0) return;
    clock.advance(
      done.until === null ? left : Math.min(left, done.until.getTime() - clock.now().getTime()),
    );
  }
}

/** Waits for the instant that a refusal names, and rotates. */
async function rotateAt(
  manager: CertificateAuthority,
  ca: Pick<TestCa, "clock">,
  at: number,
): Promise<void> {
  await leadUntil(manager, ca, at - 1);
  await refusalOf(manager);
  await leadUntil(manager, ca, at);
  await manager.rotate(NOW);
  assert.ok(
    chainLength(activeRoot(manager.require().state).intermediates) <= POLICY.maxChainLength,
  );
  await requireSigning(manager, csr, ca.clock.now());
}

describe("the instant that a refused rotation names", { timeout: 60_000 }, () => {
  it("counts each root until it is confirmed, if several must be pruned that were retired within hours", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    for (let i = 0; i < 5; i++) {
      ca.clock.advance(HOUR);
      await ca.manager.rotate(NOW);
    }
    await ca.manager.close();
    const strict = await replica(ca, "strict", { policy: POLICY });
    await strict.refresh();
    const at = await refusedUntil(strict, ca);
    // Of five retired roots four must go: the last of them was retired an hour ago.
    assert.equal(at - ca.clock.now().getTime(), (2 * 72 + 9 - 1) * HOUR + 1);
    await rotateAt(strict, ca, at);
  });

  it("does not count the active root, which waiting does not retire", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, policy: POLICY });
    const { manager } = ca;
    await manager.configure(configuration({ LeafCertTTL: "720h" }));
    await manager.rotate(NOW);
    await manager.rotate(NOW);
    await manager.configure(configuration({ LeafCertTTL: "1h" }));
    await manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
    ca.clock.advance(HOUR);
    const at = await refusedUntil(manager, ca);
    // The root of 1 h would be pruned in 2 h if it were retired now.
    assert.ok(at - ca.clock.now().getTime() > 2 * 720 * HOUR);
    await rotateAt(manager, ca, at);
  });

  it("does not exist if the active root is the obstacle, although another root will be pruned", async () => {
    const ca = await createTestCa({
      bootstrap: BOOTSTRAP,
      policy: { ...POLICY, maxChainLength: 1 },
    });
    const { manager } = ca;
    await manager.configure(configuration({ LeafCertTTL: "720h" }));
    await manager.configure(configuration({ LeafCertTTL: "1h" }));
    await manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
    // The first root is pruned in two months. If the second one were retired now, it would be
    // pruned long before.
    const { message, retryAfterMs } = await refusalOf(manager);
    assert.match(message, /and pruning old roots will not change that/);
    assert.equal(retryAfterMs, undefined);
  });

  it("is never past: the leader prunes within its next turn", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, policy: POLICY });
    const { manager } = ca;
    await manager.rotate(NOW);
    await manager.rotate(NOW);
    await leadUntil(manager, ca, (await refusedUntil(manager, ca)) - 1);
    ca.clock.advance(60_000);
    const at = await refusedUntil(manager, ca);
    assert.equal(at - ca.clock.now().getTime(), POLICY.leaderRetryMs);
    await leadUntil(manager, ca, at);
    await manager.rotate(NOW);
  });

  it("counts from the first look that found a root expired, if no look was in time", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, policy: POLICY });
    const { manager } = ca;
    await manager.rotate(NOW);
    await manager.rotate(NOW);
    await manager.close();
    ca.clock.advance(2 * 72 * HOUR + 5 * HOUR);
    const late = await replica(ca, "late", { policy: POLICY });
    await late.refresh();
    const at = await refusedUntil(late, ca);
    assert.equal(at - ca.clock.now().getTime(), 9 * HOUR);
    await leadUntil(late, ca, ca.clock.now().getTime() + HOUR);
    assert.equal(await refusedUntil(late, ca), at);
    await rotateAt(late, ca, at);
  });
});
