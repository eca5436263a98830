/**
 * The checker can fail: each rule is broken once, in a history that is right otherwise.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { CaState } from "../../src/core/state.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { configuration, createTestCa, opensslCsr, serviceUri } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { check, type Violation } from "./check.ts";
import type { Change, History, RootsRead, StoreEvent } from "./history.ts";
import { argumentsOf } from "./monitor.ts";

/** Everything behind the first certificate. */
const CHAIN = /(?<=-----END CERTIFICATE-----\n)[\s\S]+$/;

describe("check()", () => {
  /** After the bootstrap, a change of the configuration, a rotation. */
  let states: readonly [CaState, CaState, CaState];
  /** Signed under the first state and under the last one. */
  let leaves: readonly [string, string];
  let good: History;

  const write = (state: CaState, term: number): StoreEvent => ({ kind: "write", state, term });
  const grant = (term: number): StoreEvent => ({ kind: "grant", term, holder: "somebody" });
  const activeId = (state: CaState) =>
    state.roots.find(({ status }) => status === "active")?.id ?? "";
  const read = (state: CaState, at: number, more: Partial<RootsRead> = {}): RootsRead => ({
    client: "peer",
    replica: "replica",
    index: state.index,
    activeRootId: activeId(state),
    roots: state.roots.map(({ id, status, certificate }) => ({
      id,
      active: status === "active",
      pem: pemOf(certificate),
    })),
    begin: at,
    end: at,
    ...more,
  });
  const change = (asked: Change["asked"], at: number, more: Partial<Change> = {}): Change => ({
    client: "operator",
    replica: "replica",
    asked,
    outcome: "made",
    answer: "200",
    begin: at,
    end: at,
    ...more,
  });
  const line = (events: readonly StoreEvent[]): Pick<History, "lines"> => ({
    lines: [{ server: "redis", events }],
  });
  const adoptions = (...of: readonly CaState[]) =>
    of.map(({ index, commitId }) => ({ replica: "replica", index, commitId }));
  /** The rules that a history breaks, each once. */
  const rules = async (changed: Partial<History>): Promise<Violation["rule"][]> => [
    ...new Set((await check({ ...good, ...changed })).map(({ rule }) => rule)),
  ];
  const breaks = async (changed: Partial<History>, ...expected: Violation["rule"][]) =>
    assert.deepEqual(await rules(changed), expected);

  before(async () => {
    const { manager } = await createTestCa({ clock: createFakeClock(new Date()) });
    const { csr } = opensslCsr(`URI:${serviceUri(manager, "peer")}`);
    const early = (await manager.sign(csr)).certificatePem;
    const first = manager.require().state;
    await manager.configure(
      configuration({ LeafCertTTL: "73h", IntermediateCertTTL: "8760h", RootCertTTL: "87600h" }),
    );
    const second = manager.require().state;
    await manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    const third = manager.require().state;
    states = [first, second, third];
    leaves = [early, (await manager.sign(csr)).certificatePem];
    good = {
      ...line([grant(1), write(first, 1), grant(2), write(second, 2), grant(3), write(third, 3)]),
      reads: [
        read(first, 12),
        read(third, 40),
        read(first, 12, { client: "other peer", replica: "other replica" }),
      ],
      leaves: [
        { client: "peer", replica: "replica", pem: leaves[0], begin: 10, end: 11 },
        { client: "other peer", replica: "other replica", pem: leaves[0], begin: 10, end: 11 },
        { client: "peer", replica: "replica", pem: leaves[1], begin: 41, end: 42 },
      ],
      changes: [change({ leafTtl: "73h" }, 20), change({ rootId: activeId(third) }, 30)],
      adoptions: adoptions(first, second, third),
      last: { server: "redis", state: third },
      lossy: false,
    };
  });

  it("finds nothing in a correct history", () => breaks({}));

  it("finds two active roots, in the store and in a response", async () => {
    const [first, second, third] = states;
    const two: CaState = {
      ...third,
      roots: third.roots.map((root) => ({ ...root, status: "active" })),
    };
    assert.ok(
      (await rules(line([grant(1), write(first, 1), write(second, 1), write(two, 1)]))).includes(
        "active-root",
      ),
    );
    const answer = read(third, 40);
    await breaks(
      { reads: [{ ...answer, roots: answer.roots.map((root) => ({ ...root, active: true })) }] },
      "active-root",
    );
  });

  it("finds a write based on another state than the one it replaced", async () => {
    const [first, second, third] = states;
    const other: CaState = { ...third, ancestors: [first.commitId] };
    await breaks(
      line([grant(1), write(first, 1), write(second, 1), write(other, 1)]),
      "write-lost",
    );
  });

  it("finds an index that went back or was used twice", async () => {
    const [first, second, third] = states;
    const twin: CaState = { ...third, index: second.index, commitId: "f".repeat(32) };
    const events = [grant(1), write(first, 1), write(second, 1), write(third, 1), write(twin, 1)];
    assert.ok((await rules({ ...line(events) })).includes("index-back"));
  });

  it("finds a write under a superseded term", async () => {
    const [first, second, third] = states;
    await breaks(
      line([grant(1), grant(2), write(first, 1), write(second, 2), write(third, 2)]),
      "term-below-grant",
    );
    await breaks(line([write(first, 3), write(second, 2), write(third, 3)]), "term-back");
    await breaks(
      line([grant(2), grant(2), write(first, 2), write(second, 2), write(third, 2)]),
      "grant-back",
    );
  });

  it("finds a write while changes are stopped, and none if the write resolves it", async () => {
    const [first, second, third] = states;
    const mark: StoreEvent = { kind: "mark", state: third };
    await breaks(
      line([grant(1), write(first, 1), write(second, 1), mark, write(third, 1)]),
      "write-while-stopped",
    );
    await breaks(
      line([
        grant(1),
        write(first, 1),
        write(second, 1),
        mark,
        write(third, 1),
        { kind: "unmark" },
      ]),
    );
  });

  it("finds a replica that serves a state that was never stored, or goes back", async () => {
    const [first, second, third] = states;
    await breaks({ adoptions: adoptions(first, third, second) }, "adopted-back");
    await breaks(
      { adoptions: adoptions(first, { ...second, commitId: "f".repeat(32) }, third) },
      "adopted-unknown",
    );
  });

  it("finds responses that go back, match no state, or are older than the replica's own change", async () => {
    const [first, , third] = states;
    const { reads } = good;
    await breaks({ reads: [...reads, read(first, 41)] }, "read-back", "read-after-change");
    await breaks({ reads: [...reads, read(first, 35)] }, "read-after-change");
    await breaks({ reads: [read(third, 15, { index: 2 })] }, "read-unknown");
  });

  it("finds a change that was acknowledged and not made, or refused and made", async () => {
    const { changes } = good;
    await breaks({ changes: [...changes, change({ leafTtl: "99h" }, 21)] }, "change-unmade");
    await breaks(
      { changes: [change({ leafTtl: "73h" }, 20, { outcome: "refused" }), ...changes.slice(1)] },
      "change-refused-but-made",
    );
    await breaks({ changes: changes.slice(0, 1) }, "rotated-unasked");
    await breaks({ changes: changes.map((asked) => ({ ...asked, outcome: "unknown" })) });
  });

  it("finds a change that was lost, unless it was reported after a failover", async () => {
    const [first, second, third] = states;
    const events = [grant(1), write(first, 1), write(second, 1), write(third, 1)];
    const copy = {
      server: "copy",
      events: [{ kind: "found", state: first, writtenUnder: 1, granted: 1 }] as StoreEvent[],
    };
    const last = { server: "copy", state: first };
    const [old] = line(events).lines;
    assert.ok(old);
    await breaks({ lines: [old, copy], last }, "change-lost");
    await breaks({ lines: [old, copy], last, lossy: true }, "change-lost");
    const told = { ...copy, events: [...copy.events, { kind: "mark", state: third } as const] };
    await breaks({ lines: [old, told], last, lossy: true });
    await breaks({ lines: [old, told], last }, "change-lost");
  });

  it("finds a leaf that a peer with older roots cannot verify", async () => {
    const [, , late] = good.leaves;
    assert.ok(late);
    const bare = { ...late, pem: late.pem.replace(CHAIN, "") };
    await breaks({ leaves: [...good.leaves.slice(0, 2), bare] }, "pair-fails");
  });

  it("finds a root list without the root of an unexpired leaf", async () => {
    const [first, second, third] = states;
    const pruned: CaState = {
      ...third,
      roots: third.roots.filter(({ status }) => status === "active"),
    };
    const events = [grant(1), write(first, 1), write(second, 1), write(pruned, 1)];
    await breaks(
      { ...line(events), reads: [read(pruned, 40)], last: { server: "redis", state: pruned } },
      "pair-fails",
    );
  });
});

describe("argumentsOf()", () => {
  it("undoes the escapes of MONITOR", () => {
    const line = String.raw`+1700000000.123456 [0 lua] "HSET" "{a b}:state" "a\"b\\c\n" "\xc3\xa9" ""`;
    assert.deepEqual(argumentsOf(line), ["HSET", "{a b}:state", 'a"b\\c\n', "é", ""]);
  });
});
