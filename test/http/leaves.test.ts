/**
 * GET /v1/connect/ca/leaves, and what an operator reads of leaves elsewhere: the alarm in /readyz, in
 * the log and in `meshca status`.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Report } from "../../src/compose/report.ts";
import type { LeafSummary } from "../../src/core/ca/leaf-summary.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { MemoryLeafCounts, SealedLeafCounts } from "../../src/store/leaf-counts.ts";
import { createTestCa, opensslCsr, serviceUri, silentLog } from "../fakes/ca.ts";
import { createTestApp } from "../fixtures/app.ts";

const PATH = "/v1/connect/ca/leaves";

describe("GET /v1/connect/ca/leaves", () => {
  it("has the leaves of each root and issuer", async () => {
    const sealer = createSealer(await readKeks(makeKek()));
    const codec = new SealedLeafCounts({ sealer, datacenter: null, readsUnbound: true });
    const store = new MemoryLeafCounts();
    const ca = await createTestCa({ sealer, leafCounts: { store, codec } });
    await ca.manager.heartbeat();
    await ca.manager.saveLeafCounts();
    const { fetch } = await createTestApp({}, ca);
    await ca.manager.sign(opensslCsr(`URI:${serviceUri(ca.manager, "web")}`).csr);
    const answer = await fetch(PATH);
    assert.equal(answer.status, 200);
    const { id } = ca.manager.require().active;
    const Until = "2026-06-04T12:00:00.000Z";
    assert.deepEqual(await answer.json(), {
      ...{ Counting: true, CompleteSince: null, LowerBound: false },
      Roots: [
        {
          ...{ ID: id, Status: "active", Leaves: 1, Until, PruneAt: null, Overdue: 0 },
          Issuers: [{ ID: id, Leaves: 1, Until }],
        },
      ],
    });
    await ca.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    const { Roots } = (await (await fetch(PATH)).json()) as {
      Roots: { Status: string; PruneAt: string }[];
    };
    // Twice the largest leaf life after it was retired.
    assert.deepEqual(
      Roots.map(({ Status, PruneAt }) => [Status, PruneAt]),
      [["retired", "2026-06-07T12:00:00.000Z"]],
    );
  });

  it("says that a server does not count", async () => {
    const { fetch } = await createTestApp();
    assert.deepEqual(await (await fetch(PATH)).json(), {
      ...{ Counting: false, CompleteSince: null, LowerBound: true, Roots: [] },
    });
  });
});

describe("leaves that outlive their root", () => {
  it("are a line of /readyz for each root, and one of the log until they are over", async () => {
    const { manager, clock } = await createTestCa();
    const at = new Date("2026-06-04T13:00:00Z");
    const root = { leaves: 9, until: at, issuers: [] };
    let roots: LeafSummary["roots"] = [
      { ...root, id: "aa", status: "active", removableAt: null, overdue: 0 },
      { ...root, id: "bb", status: "retired", removableAt: new Date(0), overdue: 1 },
      { ...root, id: "cc", status: "unpublished", removableAt: null, overdue: 7 },
    ];
    const ca = new Proxy(manager, {
      get(target, name) {
        if (name === "leaves")
          return { isCounting: true, completeSince: null, isLowerBound: false, roots };
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const logged: [string, LogFields][] = [];
    const log = {
      ...silentLog,
      error: (message: string, fields: LogFields = {}) => void logged.push([message, fields]),
    };
    const report = new Report({
      ...{ ca, audit: null, serverCertificate: () => null, clock, log },
    });
    const alarms = () =>
      report.lines().flatMap(([name, text]) => (name === "leaves_alarm" ? [text] : []));
    const texts = [
      "at least 1 leaf of root bb, which can be pruned from 1970-01-01T00:00:00.000Z on, is valid until 2026-06-04T13:00:00.000Z; make their holders renew now, or they are refused",
      "at least 7 leaves of root cc, which is not published any more, are valid until 2026-06-04T13:00:00.000Z; make their holders renew now, or they are refused",
    ];
    assert.deepEqual(alarms(), texts);
    report.warn();
    report.warn();
    assert.equal(logged.length, 1);
    assert.match(logged[0]?.[0] ?? "", /^Leaves outlive their root: /);
    assert.deepEqual(logged[0]?.[1], { roots: texts });
    const before = roots;
    roots = [];
    report.warn();
    assert.deepEqual(alarms(), []);
    roots = before;
    report.warn();
    assert.equal(logged.length, 2);
  });
});
