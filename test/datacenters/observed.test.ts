/**
 * What an operator reads of a secondary datacenter and its primary one, on a fake clock: the lag, the
 * metrics, and the alarm of an intermediate that is not renewed.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { REMEDIES } from "../../src/compose/remedies.ts";
import { Report } from "../../src/compose/report.ts";
import { PrimaryError } from "../../src/core/errors.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { PrometheusMetrics } from "../../src/telemetry/prometheus.ts";
import {
  configuration,
  createCa,
  createTestCa,
  DEFAULT_BOOTSTRAP,
  silentLog,
  type TestCa,
} from "../fakes/ca.ts";
import { pair, primaryOf } from "./pair.ts";

const HOUR = 3_600_000;
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const metricsOf = () => new PrometheusMetrics({ version: "0", runtime: "test" });

/** The series of a CA that are of other datacenters, by name and labels. */
async function seriesOf(
  metrics: PrometheusMetrics,
  { manager, clock }: Pick<TestCa, "manager" | "clock">,
): Promise<Readonly<Record<string, number>>> {
  const { snapshot, status } = manager;
  const { text } = await metrics.render({
    ...{ snapshot, status, now: clock.now(), watchers: 0, signing: 0, renewWindowMs: null },
    leaves: null,
    ...{ audit: null, obstacle: null, changeObstacle: null, certificate: null },
  });
  const lines = [...text.matchAll(/^(meshca_(?:primary|intermediate)\S+) (\S+)$/gm)];
  return Object.fromEntries(lines.map(([, name = "", value]) => [name, Number(value)]));
}

function reportOf({ manager, clock }: Pick<TestCa, "manager" | "clock">) {
  const logged: { level: string; message: string; fields: LogFields }[] = [];
  const note =
    (level: string) =>
    (message: string, fields: LogFields = {}) =>
      void logged.push({ level, message, fields });
  const log = { ...silentLog, info: note("info"), warn: note("warn"), error: note("error") };
  const report = new Report({
    ...{ ca: manager, audit: null, serverCertificate: () => null, clock, log },
  });
  const lines = (name: string) =>
    report.lines().flatMap(([each, value]) => (each === name ? [value] : []));
  return { report, logged, lines };
}

describe("the index that a secondary datacenter follows", () => {
  it("is the primary's, also after a change there that nothing is followed of", async () => {
    const both = await pair();
    const index = () => {
      const { primary } = both.two.manager.status;
      return [primary?.index, primary?.followedIndex];
    };
    assert.deepEqual(index(), [1, 1]);
    await both.one.manager.configure(configuration({ LeafCertTTL: "24h" }));
    await both.settle();
    const { modifyIndex } = both.one.manager.require().state.config;
    assert.ok(modifyIndex > 1);
    assert.deepEqual(index(), [modifyIndex, modifyIndex]);
    const [line] = reportOf(both.two).lines("primary");
    assert.match(
      line ?? "",
      new RegExp(`^dc1, last contact \\S+Z, index ${modifyIndex}, followed index ${modifyIndex}$`),
    );
  });

  it("lags behind while a rotation of the primary cannot be followed, with the reason", async () => {
    const metrics = metricsOf();
    const both = await pair({ two: { metrics } });
    await both.one.manager.rotate(NOW);
    both.primary.change.sign = () => {
      throw new PrimaryError("refused", "Permission denied");
    };
    await both.settle();
    const [line] = reportOf(both.two).lines("primary");
    assert.match(
      line ?? "",
      /^dc1, last contact \S+Z, index 3, followed index 1; not followed since \S+Z \(refused\): Permission denied$/,
    );
    const series = await seriesOf(metrics, both.two);
    assert.equal(series['meshca_primary_followed{datacenter="dc1"}'], 0);
    assert.equal(series['meshca_primary_index{datacenter="dc1"}'], 3);
    assert.equal(series['meshca_primary_followed_index{datacenter="dc1"}'], 1);
    const failures = series['meshca_primary_failures_total{step="follow",code="refused"}'];
    assert.ok(failures !== undefined && failures >= 1);
    assert.equal(series.meshca_intermediate_renewals_total, 0);
    both.primary.change = {};
    await both.settle();
    const after = await seriesOf(metrics, both.two);
    assert.equal(after['meshca_primary_followed{datacenter="dc1"}'], 1);
    assert.equal(after['meshca_primary_followed_index{datacenter="dc1"}'], 3);
    assert.equal(after.meshca_intermediate_renewals_total, 1);
  });

  it("is known to a replica that does not lead, and nothing of the primary is", async () => {
    const both = await pair();
    const { clock, backend, sealer } = both.two;
    const metrics = metricsOf();
    const other = createCa({
      ...backend.open(createCodec(sealer), "other"),
      ...{ sealer, clock, metrics, datacenter: "dc2", hasDatacenters: true },
      primary: primaryOf(both.one),
    });
    await other.start();
    const subject = { manager: other, clock };
    assert.deepEqual(reportOf(subject).lines("primary"), [
      "dc1, asked by the leader, followed index 1",
    ]);
    const names = Object.keys(await seriesOf(metrics, subject)).map((name) => name.split("{")[0]);
    assert.deepEqual(
      names.filter((name) => name?.startsWith("meshca_primary_")),
      ["meshca_primary_followed_index"],
    );
  });

  it("has no fault and no index of the time when this replica led", async () => {
    const metrics = metricsOf();
    const both = await pair({ two: { metrics } });
    both.primary.away = true;
    await both.settle();
    assert.equal(both.two.manager.status.primary?.fault?.code, "unreachable");
    await both.two.manager.resign();
    assert.equal(both.two.manager.status.primary?.fault, null);
    assert.deepEqual(reportOf(both.two).lines("primary"), [
      "dc1, asked by the leader, followed index 1",
    ]);
    const series = Object.keys(await seriesOf(metrics, both.two));
    assert.deepEqual(
      series.filter((name) => /^meshca_primary_.*datacenter/.test(name)),
      ['meshca_primary_followed_index{datacenter="dc1"}'],
    );
  });
});

describe("metrics of datacenters", () => {
  it("of a secondary one: contact, clock, the life of the intermediate, failures by code", async () => {
    const metrics = metricsOf();
    const both = await pair({ two: { metrics } });
    both.primary.clockOffsetMs = -1500;
    const { issuer } = both.two.manager.require().provider ?? assert.fail();
    const contact = both.two.clock.now().getTime() / 1000;
    const dc1 = '{datacenter="dc1"}';
    const series = await seriesOf(metrics, both.two);
    assert.deepEqual(series, {
      meshca_intermediate_renewals_total: 0,
      [`meshca_primary_followed${dc1}`]: 1,
      [`meshca_primary_last_contact_timestamp_seconds${dc1}`]: contact,
      [`meshca_primary_index${dc1}`]: 1,
      [`meshca_primary_followed_index${dc1}`]: 1,
      [`meshca_primary_clock_offset_seconds${dc1}`]: -1.5,
      [`meshca_intermediate_not_before_timestamp_seconds${dc1}`]: issuer.notBefore.getTime() / 1000,
      [`meshca_intermediate_not_after_timestamp_seconds${dc1}`]: issuer.notAfter.getTime() / 1000,
      meshca_intermediates: 0,
      meshca_intermediates_first_not_after_timestamp_seconds: 0,
    });
    both.primary.away = true;
    await both.settle();
    const away = await seriesOf(metrics, both.two);
    assert.equal(away[`meshca_primary_followed${dc1}`], 0);
    assert.equal(away[`meshca_primary_last_contact_timestamp_seconds${dc1}`], contact);
    assert.equal(away['meshca_primary_failures_total{step="read",code="unreachable"}'], 1);
  });

  it("of a secondary one: a root that the primary removes is followed without a new intermediate", async () => {
    const metrics = metricsOf();
    const both = await pair({ two: { metrics } });
    await both.one.manager.rotate(NOW);
    await both.settle();
    const { length } = both.two.manager.require().state.roots;
    for (let i = 0; i < 60 && both.two.manager.require().state.roots.length === length; i++) {
      both.one.clock.advance(6 * HOUR);
      for (const ca of [both.one, both.two]) await ca.manager.heartbeat();
      await both.one.manager.tick();
      await both.settle();
    }
    assert.equal(both.two.manager.require().state.roots.length, length - 1);
    assert.equal((await seriesOf(metrics, both.two)).meshca_intermediate_renewals_total, 1);
  });

  it("of a primary one: requests by outcome, and what is recorded and not expired", async () => {
    const metrics = metricsOf();
    const both = await pair({ one: { metrics } });
    await both.two.manager.rotate(NOW);
    await assert.rejects(
      both.one.manager.signIntermediate({
        csr: "x",
        caller: { accessor: null, address: null, requestId: null },
        permit: () => undefined,
      }),
    );
    const first = Math.min(
      ...both.one.manager.require().state.intermediates.map(({ notAfter }) => notAfter.getTime()),
    );
    const series = async () => {
      const all = await seriesOf(metrics, both.one);
      return Object.fromEntries(
        Object.entries(all).filter(([name]) => !name.includes("renewals_total")),
      );
    };
    assert.deepEqual(await series(), {
      'meshca_intermediate_requests_total{outcome="ok"}': 2,
      'meshca_intermediate_requests_total{outcome="csr_malformed"}': 1,
      meshca_intermediates: 2,
      meshca_intermediates_first_not_after_timestamp_seconds: first / 1000,
    });
    assert.deepEqual(reportOf(both.one).lines("intermediates"), [
      `2, the first expires at ${new Date(first).toISOString()}`,
    ]);
    both.one.clock.advance(400 * 24 * HOUR);
    assert.equal((await series()).meshca_intermediates, 0);
    assert.deepEqual(reportOf(both.one).lines("intermediates"), []);
  });
});

describe("an intermediate that is not renewed", () => {
  /** A pair whose primary is away, at a share of the life of the intermediate that is left. */
  async function lateAt(intermediateTtl = "8760h") {
    const bootstrap = {
      ...DEFAULT_BOOTSTRAP,
      config: { ...DEFAULT_BOOTSTRAP.config, IntermediateCertTTL: intermediateTtl },
    };
    const both = await pair({ one: { bootstrap } });
    const { notBefore, notAfter } = both.two.manager.require().provider?.issuer ?? assert.fail();
    both.primary.away = true;
    const observed = reportOf(both.two);
    return {
      ...{ ...both, ...observed, notAfter },
      async moveTo(at: number) {
        both.two.clock.advance(at - both.two.clock.now().getTime());
        for (let i = 0; i < 4; i++) await both.two.manager.tick();
        for (let i = 0; i < 3; i++) observed.report.warn();
      },
      leaving: (share: number) =>
        notAfter.getTime() - share * (notAfter.getTime() - notBefore.getTime()),
    };
  }
  const logOf = (late: Awaited<ReturnType<typeof lateAt>>) =>
    late.logged.splice(0).map(({ level, message }) => `${level} ${message}`);

  it("is a warning below 45 % of its life, once, and an error below a quarter", async () => {
    const late = await lateAt();
    const end = late.notAfter.toISOString();
    await late.moveTo(late.leaving(0.451));
    assert.deepEqual([late.lines("remedy"), logOf(late)], [[], []]);
    await late.moveTo(late.leaving(0.449));
    const overdue = REMEDIES["intermediate overdue"].text;
    assert.deepEqual(late.lines("remedy"), [
      `the intermediate was not renewed at half of its life and expires at ${end}: ${overdue}`,
    ]);
    assert.equal(late.logged[0]?.fields.reason, "No CA server answered");
    assert.equal(late.logged[0]?.fields.primary, "dc1");
    assert.deepEqual(logOf(late), [
      `warn The intermediate was not renewed at half of its life: ${overdue}`,
    ]);
    await late.moveTo(late.leaving(0.251));
    assert.deepEqual(logOf(late), []);
    await late.moveTo(late.leaving(0.249));
    const urgent = REMEDIES["intermediate expires"].text;
    assert.deepEqual(late.lines("remedy"), [
      `the intermediate was not renewed at half of its life and expires at ${end}: ${urgent}`,
    ]);
    assert.deepEqual(logOf(late), [
      `error The intermediate is not renewed, and little of its life is left: ${urgent}`,
    ]);
    await late.moveTo(late.notAfter.getTime() - 24 * HOUR);
    assert.deepEqual(logOf(late), [`warn The intermediate expires within 1 day: ${urgent}`]);
    await late.moveTo(late.notAfter.getTime() + 1);
    const expired = REMEDIES["intermediate expired"].text;
    assert.deepEqual(late.lines("remedy"), [`the intermediate has expired at ${end}: ${expired}`]);
    assert.deepEqual(logOf(late), [`error The intermediate has expired: ${expired}`]);
    late.primary.away = false;
    await late.settle();
    late.report.warn();
    assert.deepEqual([late.lines("remedy"), logOf(late)], [[], []]);
  });

  it("is not logged at the first look, which may come before the renewal that was due", async () => {
    const late = await lateAt();
    late.two.clock.advance(late.leaving(0.2) - late.two.clock.now().getTime());
    late.report.warn();
    assert.deepEqual(logOf(late), []);
    late.report.warn();
    assert.equal(logOf(late).length, 1);
  });

  it("is an error below the life of a leaf, which it then shortens", async () => {
    // Of ten days, 72 h are 30 %.
    const late = await lateAt("240h");
    await late.moveTo(late.notAfter.getTime() - 73 * HOUR);
    assert.deepEqual(
      logOf(late).map((line) => line.split(" ")[0]),
      ["warn", "warn"],
    );
    await late.moveTo(late.notAfter.getTime() - 71 * HOUR);
    assert.match(logOf(late).join(), /^error The intermediate is not renewed, and little/);
  });

  it("is no alarm in the half of a life that is shorter than a leaf's", async () => {
    const bootstrap = {
      ...DEFAULT_BOOTSTRAP,
      config: { LeafCertTTL: "1h", IntermediateCertTTL: "3h", RootCertTTL: "87600h" },
    };
    const both = await pair({ one: { bootstrap } });
    const { report, logged, lines } = reportOf(both.two);
    assert.equal(both.two.manager.require().config.leafTtlMs, 72 * HOUR);
    for (let i = 0; i < 12; i++) {
      both.two.clock.advance(HOUR / 4);
      for (const ca of [both.one, both.two]) await ca.manager.heartbeat();
      await both.two.manager.tick();
      report.warn();
      assert.deepEqual([lines("remedy"), logged], [[], []]);
    }
    assert.ok(both.primary.signed > 1);
  });

  it("is told apart from an issuer of a primary datacenter", async () => {
    const ca = await createTestCa();
    const { lines } = reportOf(ca);
    assert.deepEqual(lines("primary"), []);
    const { notAfter } = ca.manager.require().active.certificate;
    ca.clock.advance(notAfter.getTime() - ca.clock.now().getTime() - 24 * HOUR);
    assert.match(lines("remedy").join(), /^the root expires at /);
  });
});
