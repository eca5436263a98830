/**
 * GET /v1/status/datacenter: what it has of a secondary datacenter and of a primary one, and who may
 * see it.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NotReadyError } from "../../src/core/errors.ts";
import { pair } from "../datacenters/pair.ts";
import { accessThat } from "../fixtures/access.ts";
import { createTestApp } from "../fixtures/app.ts";

const PATH = "/v1/status/datacenter";
const bodyOf = async (answer: Response): Promise<unknown> => {
  assert.equal(answer.status, 200);
  return answer.json();
};
const NEVER_PROMOTED = { Promotions: 0, OtherPrimary: null, PreparedRoot: null };

describe(PATH, () => {
  it("has what a secondary datacenter follows, and the fault with its code", async () => {
    const both = await pair();
    both.primary.clockOffsetMs = 1234.5;
    const others = { names: ["dc3", "dc1"], send: () => Promise.reject(new Error("none")) };
    const server = { datacenter: "dc2" };
    const { fetch } = await createTestApp({ server, others }, both.two);
    const { issuer } = both.two.manager.require().provider ?? assert.fail();
    const contact = both.two.clock.now().toISOString();
    const expected = {
      Datacenter: "dc2",
      Others: ["dc1", "dc3"],
      Primary: {
        ...{ Datacenter: "dc1", Asked: true, LastContact: contact, Index: 1, FollowedIndex: 1 },
        ...{ ClockOffsetMs: 1235, Fault: null },
      },
      ...NEVER_PROMOTED,
      Intermediate: {
        ID: issuer.id,
        NotBefore: issuer.notBefore.toISOString(),
        NotAfter: issuer.notAfter.toISOString(),
        Delay: null,
      },
      Intermediates: { Unexpired: 0, FirstNotAfter: null },
    };
    assert.deepEqual(await bodyOf(await fetch(PATH)), expected);
    both.primary.away = true;
    const life = issuer.notAfter.getTime() - issuer.notBefore.getTime();
    both.two.clock.advance(0.56 * life);
    await both.two.manager.tick();
    const since = both.two.clock.now().toISOString();
    assert.deepEqual(await bodyOf(await fetch(PATH)), {
      ...expected,
      Primary: {
        ...expected.Primary,
        Fault: {
          ...{ Step: "read", Code: "unreachable", Reason: "No CA server answered", Since: since },
        },
      },
      Intermediate: { ...expected.Intermediate, Delay: "overdue" },
    });
    both.two.clock.advance(0.2 * life);
    const { Intermediate } = (await bodyOf(await fetch(PATH))) as typeof expected;
    assert.equal(Intermediate.Delay, "urgent");
  });

  it("has the intermediates that a primary datacenter signed", async () => {
    const both = await pair();
    const { fetch } = await createTestApp({}, both.one);
    const [signed] = both.one.manager.require().state.intermediates;
    assert.deepEqual(await bodyOf(await fetch(PATH)), {
      ...{ Datacenter: "dc1", Others: [], Primary: null, Intermediate: null },
      ...NEVER_PROMOTED,
      Intermediates: { Unexpired: 1, FirstNotAfter: signed?.notAfter.toISOString() },
    });
  });

  it("answers before there is a state", async () => {
    const both = await pair({ started: false });
    both.primary.away = true;
    await both.two.manager.tick();
    const { fetch } = await createTestApp({}, both.two);
    const { Primary, Intermediate } = (await bodyOf(await fetch(PATH))) as {
      readonly Primary: { readonly Fault: { readonly Code: string } };
      readonly Intermediate: unknown;
    };
    assert.deepEqual([Primary.Fault.Code, Intermediate], ["unreachable", null]);
  });

  it("is refused to callers without operator:read, and before a token can be checked", async () => {
    const answerOf = async (control: ReturnType<typeof accessThat>) => {
      const { fetch } = await createTestApp({ acl: { control } });
      const answer = await fetch(PATH);
      return [answer.status, (await answer.text()).split(":")[0]];
    };
    assert.equal((await answerOf(accessThat({ allows: () => true })))[0], 200);
    assert.deepEqual(await answerOf(accessThat({ allows: () => false })), [
      403,
      "Permission denied",
    ]);
    const unloaded = {
      ...accessThat({ allows: () => true }),
      authorize: () => Promise.reject(new NotReadyError("state_stale", "not loaded")),
    };
    assert.deepEqual(await answerOf(unloaded), [503, "Cannot check the token"]);
  });
});
