/**
 * A set of workloads whose SVIDs and roots a test sets: real certificates of a CA in this process.
 * @module
 */

import type { AgentMetrics, Delivery } from "../../src/agent/agent-metrics.ts";
import type { WorkloadSet } from "../../src/agent/workload.ts";
import { MutableSource } from "../../src/client/source.ts";
import type { TrustBundle, X509Svid } from "../../src/client/svid.ts";
import type { Log, LogFields } from "../../src/core/ports/log.ts";
import { configuration, createTestCa, type TestCa } from "../fakes/ca.ts";
import { bundleOf, makeSvid } from "../fixtures/svid.ts";

export interface TestWorkload {
  readonly service: string;
  readonly svid: MutableSource<X509Svid>;
  problem: string | null;
}

export interface TestSet extends WorkloadSet {
  readonly workloads: readonly TestWorkload[];
  readonly bundle: MutableSource<TrustBundle>;
  readonly ca: TestCa;
  /** Signs a new leaf for a workload, and sets it. */
  renew(index?: number): Promise<X509Svid>;
  /** Replaces the root, then renews every workload. */
  rotate(): Promise<void>;
}

/** A set of services. @param services the default one first. @param empty leaves every source unset. */
export async function createTestSet(services: readonly string[], empty = false): Promise<TestSet> {
  const ca = await createTestCa();
  const workloads = services.map((service) => ({
    service,
    svid: new MutableSource<X509Svid>(),
    problem: null,
  }));
  const bundle = new MutableSource<TrustBundle>();
  const renew = async (index = 0) => {
    const { service, svid } = workloads[index] as TestWorkload;
    const made = await makeSvid(ca.manager, service);
    svid.set(made);
    return made;
  };
  const set: TestSet = {
    workloads,
    bundle,
    ca,
    renew,
    async rotate() {
      const keys = [
        { PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
        { PrivateKeyType: "ec", PrivateKeyBits: 384 },
        { PrivateKeyType: "ec", PrivateKeyBits: 256 },
      ];
      const { roots } = bundleOf(ca.manager);
      await ca.manager.configure(configuration({ ...keys[(roots.length - 1) % 3] }));
      bundle.set(bundleOf(ca.manager));
      for (const index of workloads.keys()) await renew(index);
    },
  };
  if (!empty) {
    bundle.set(bundleOf(ca.manager));
    for (const index of workloads.keys()) await renew(index);
  }
  return set;
}

/** Counts as the agent's metrics do. */
export class CountingMetrics implements AgentMetrics {
  readonly open: Partial<Record<Delivery, number>> = {};
  readonly refusals: string[] = [];

  streams(delivery: Delivery, change: 1 | -1): void {
    this.open[delivery] = (this.open[delivery] ?? 0) + change;
  }

  refused(delivery: Delivery, reason: string): void {
    this.refusals.push(`${delivery} ${reason}`);
  }

  delivered(): void {}
}

/** Keeps what is logged. */
export class KeepingLog implements Log {
  readonly lines: { level: string; message: string; fields: LogFields }[] = [];

  debug(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: "debug", message, fields });
  }
  info(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: "info", message, fields });
  }
  warn(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: "warn", message, fields });
  }
  error(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: "error", message, fields });
  }
}
