/**
 * A promotion, the activation of its root and the demotion of the former primary with a fault at every
 * call to a port: the state is as before or as after, leaves are signed, and the next caller goes on.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { CertificateAuthority } from "../../src/core/ca/ca.ts";
import type { PromotionRoot } from "../../src/core/ca/plan-promotion.ts";
import type { PrimaryDatacenter } from "../../src/core/ports/primary.ts";
import type { Sealer } from "../../src/core/ports/sealer.ts";
import type { CaState } from "../../src/core/state.ts";
import { activeRoot } from "../../src/core/state.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { createFaults, MODES } from "../core/ca/faults.ts";
import { BOOTSTRAP, readChain, replica, webCsr } from "../core/ca/harness.ts";
import type { FlatCaOptions, TestCa } from "../fakes/ca.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { type Pair, pair, primaryOf } from "./pair.ts";

/** Longer than every lease. */
const LEASES_OVER = 31_000;
const MINUTE = 60_000;

/** A CA, and how its replicas are configured. */
interface Subject {
  readonly ca: TestCa;
  readonly options: Partial<FlatCaOptions>;
  readonly csr: string;
}

interface Operation {
  readonly name: string;
  /** Brings two datacenters into the state before the operation. @returns the one it changes */
  readonly start: (both: Pair) => Promise<Subject>;
  readonly run: (manager: CertificateAuthority) => Promise<unknown>;
  /** Whether a state is the result of the operation. */
  readonly done: (state: CaState) => boolean;
}

let csrs: { readonly dc1: string; readonly dc2: string };
let sealers: { readonly one: Sealer; readonly two: Sealer };
/** The state of the primary before the promotion. */
let backup: CaState;

before(async () => {
  const dc1 = webCsr();
  const uri = `spiffe://${BOOTSTRAP.clusterId}.consul/ns/default/dc/dc2/svc/web`;
  csrs = { dc1, dc2: opensslCsr(`URI:${uri}`).csr };
  const [one, two] = [makeKek(), makeKek()];
  sealers = {
    one: createSealer(await readKeks(one), "dc1"),
    two: createSealer(await readKeks(`${two}\n${one}`), "dc2"),
  };
});

const promote = (manager: CertificateAuthority, root: PromotionRoot) =>
  manager.promote({ root, forceWithoutCrossSigning: false, modifyIndex: null });
const secondary = ({ two, primary }: Pair): Subject => ({
  ca: two,
  options: { datacenter: "dc2", hasDatacenters: true, primary },
  csr: csrs.dc2,
});

const operations: readonly Operation[] = [
  {
    name: "a promotion with a backup",
    start: async (both) => secondary(both),
    run: (manager) => promote(manager, { kind: "backup", backup }),
    done: ({ primary, promotions }) => primary === null && promotions === 1,
  },
  {
    name: "a promotion with a new root",
    start: async (both) => secondary(both),
    run: (manager) => promote(manager, { kind: "new", soakMs: MINUTE }),
    done: ({ primary, promotions, provider }) =>
      primary === null && promotions === 1 && provider.prepared !== null,
  },
  {
    name: "the activation of a prepared root",
    start: async (both) => {
      await promote(both.two.manager, { kind: "new", soakMs: MINUTE });
      await both.two.manager.close();
      both.two.clock.advance(MINUTE);
      return secondary(both);
    },
    run: (manager) => manager.tick(),
    done: ({ provider, roots }) =>
      provider.prepared === null && roots.some(({ lost }) => lost === true),
  },
  {
    name: "the demotion of the former primary",
    start: async ({ one, two }) => {
      await promote(two.manager, { kind: "backup", backup });
      await one.manager.close();
      const primary: PrimaryDatacenter = { ...primaryOf(two), name: "dc2" };
      return { ca: one, options: { hasDatacenters: true, primary }, csr: csrs.dc1 };
    },
    // A tick that fails to follow is only logged.
    run: async (manager) => {
      await manager.tick();
      if (manager.require().state.primary === null) throw new Error("It does not follow");
    },
    done: ({ primary, promotions, provider }) =>
      primary?.datacenter === "dc2" &&
      promotions === 1 &&
      Object.keys(provider.retired).length === 0,
  },
];

/** Signs a leaf, and verifies it under the active root. */
async function requireSigning(manager: CertificateAuthority, { ca, csr }: Subject): Promise<void> {
  const { leaf, intermediates } = readChain((await manager.sign(csr)).certificatePem);
  const { certificate } = activeRoot(manager.require().state);
  assert.ok((await findPath(leaf, intermediates, certificate, ca.clock.now())) !== null);
}

/**
 * Runs an operation with its n-th call to a port failing.
 * @returns whether there was an n-th call.
 */
async function runWithFault(
  { start, run, done }: Operation,
  mode: (typeof MODES)[number],
  n: number,
): Promise<boolean> {
  const both = await pair({
    one: { sealer: sealers.one, bootstrap: BOOTSTRAP },
    two: { sealer: sealers.two },
  });
  backup = both.one.manager.require().state;
  const subject = await start(both);
  const { ca, options } = subject;
  const faults = createFaults(ca.backend, ca.sealer, "faulty");
  const faulty = await replica(ca, "faulty", { ...options, ...faults.ports });
  await faulty.refresh();
  const { document } = ca.backend;

  faults.arm(n, mode);
  const outcome = await Promise.race([
    run(faulty).then(
      () => "done",
      () => "refused",
    ),
    faults.reached
      .then(() => new Promise((resolve) => setImmediate(resolve)))
      .then(() => (mode.startsWith("die") ? "dead" : new Promise(() => {}))),
  ]);
  const where = `${mode} at call ${n}, ${faults.hit}`;
  faults.disarm();

  const next = await replica(ca, "next", options);
  await next.refresh();
  const unchanged = ca.backend.document === document;
  assert.ok(
    unchanged || done(next.require().state),
    `the state is neither as before nor as after: ${where}`,
  );
  if (outcome === "done") assert.ok(!unchanged, `done is reported, and it was not: ${where}`);
  if (outcome === "refused")
    assert.ok(unchanged, `a failure is reported, and it was done: ${where}`);
  for (const manager of [next, faulty]) await requireSigning(manager, subject);
  if (faults.hit === null) {
    assert.equal(outcome, "done");
    return false;
  }
  if (unchanged) {
    ca.clock.advance(LEASES_OVER);
    await run(outcome === "refused" ? faulty : next);
    await next.refresh();
    assert.ok(done(next.require().state), `trying again did not help: ${where}`);
    await requireSigning(next, subject);
  }
  return true;
}

describe("a fault at any call", () => {
  for (const operation of operations)
    for (const mode of MODES)
      it(`${operation.name} is done or not done if a port call fails (${mode})`, {
        timeout: 60_000,
      }, async () => {
        let n = 1;
        while (await runWithFault(operation, mode, n)) n++;
        assert.ok(n > 5, "the ports were not called");
      });
});
