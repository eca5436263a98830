/**
 * A CA in one process over the memory store and a fake clock: the real CertificateAuthority,
 * sealer, codec and provider.
 * @module
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { providers } from "../../providers/index.ts";
import { type CaOptions, CertificateAuthority } from "../../src/core/ca/ca.ts";
import type { CaPorts } from "../../src/core/ca/ca-ports.ts";
import type { ConfigurationRequest } from "../../src/core/ca/plan-change.ts";
import type { BootstrapConfig } from "../../src/core/ca/plan-root.ts";
import { longestConfirmMs } from "../../src/core/ca/root-removal.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import type { Log } from "../../src/core/ports/log.ts";
import type { Metrics } from "../../src/core/ports/metrics.ts";
import type { Sealer } from "../../src/core/ports/sealer.ts";
import { HINTS } from "../../src/http/hints.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { MemoryBackend } from "../../src/store/memory/store.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { createFakeClock, type FakeClock, systemRandom } from "./clock.ts";

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
export const noMetrics: Metrics = {
  ...{ leafIssued() {}, leafRefused() {}, change() {} },
  ...{ primaryFailed() {}, intermediateRenewed() {}, intermediateRequested() {} },
};
export const DEFAULT_BOOTSTRAP: BootstrapConfig = {
  clusterId: null,
  trustDomain: null,
  provider: "consul",
  config: { IntermediateCertTTL: "8760h", LeafCertTTL: "72h", RootCertTTL: "87600h" },
  forceWithoutCrossSigning: false,
};

export interface TestCa {
  readonly manager: CertificateAuthority;
  readonly clock: FakeClock;
  readonly backend: MemoryBackend;
  readonly sealer: Sealer;
}

/** The options of a CA and its ports side by side, so that a test replaces one by its name. */
export type FlatCaOptions = Omit<CaOptions, "ports"> & CaPorts;

type Given = "store" | "leases" | "replicas" | "looks" | "sealer" | "clock";

/** Makes a CA; options that are missing get the defaults of most tests. */
export function createCa(
  given: Pick<FlatCaOptions, Given> & Partial<FlatCaOptions>,
): CertificateAuthority {
  const { store, leases, replicas, looks, sealer, clock, ...rest } = given;
  const ports = { store, leases, replicas, looks, sealer, clock };
  const {
    providers: types = providers,
    random = systemRandom,
    log = silentLog,
    metrics = noMetrics,
    audit = null,
    hints = HINTS,
    ...options
  } = rest;
  return new CertificateAuthority({
    self: { id: "test", address: "test" },
    lastSeen: null,
    datacenter: "dc1",
    bootstrap: DEFAULT_BOOTSTRAP,
    ...options,
    ports: { ...ports, providers: types, random, log, metrics, audit, hints },
  });
}

/** Starts a CA. `started: false` leaves the bootstrap to the test. */
export async function createTestCa(
  overrides: Partial<FlatCaOptions> & {
    started?: boolean;
    backend?: MemoryBackend;
    clock?: FakeClock;
  } = {},
): Promise<TestCa> {
  const { started = true, ...given } = overrides;
  const { clock = createFakeClock(), sealer = createSealer(await readKeks(makeKek())) } = given;
  const { backend = new MemoryBackend(clock), ...options } = given;
  const ports = backend.open(createCodec(sealer), "test");
  const manager = createCa({ ...ports, ...options, sealer, clock });
  if (started) await manager.tick();
  return { manager, clock, backend, sealer };
}

/**
 * Lets looks at the clock confirm all that has expired: a first look now, and the span that must
 * pass before another look may delete it.
 */
export async function confirmOver({
  manager,
  clock,
}: Pick<TestCa, "manager" | "clock">): Promise<void> {
  await manager.tick();
  clock.advance(longestConfirmMs(manager.require().state.roots, DEFAULT_POLICY));
}

/** A configuration request for the built-in provider. */
export function configuration(
  config: Record<string, unknown> | null,
  more: Partial<ConfigurationRequest> = {},
): ConfigurationRequest {
  return {
    provider: "consul",
    config,
    state: null,
    forceWithoutCrossSigning: false,
    modifyIndex: null,
    ...more,
  };
}

/** The trust domain of a CA. */
export function trustDomain(manager: CertificateAuthority): string {
  return manager.require().state.trustDomain;
}

/** The SPIFFE ID of a service in the default namespace of dc1. */
export function serviceUri(manager: CertificateAuthority, service: string): string {
  return `spiffe://${trustDomain(manager)}/ns/default/dc/dc1/svc/${service}`;
}

/**
 * Makes a request with openssl.
 * @param san the value of subjectAltName, or null for none.
 * @param newkey openssl's arguments for the key.
 */
export function opensslCsr(
  san: string | null,
  newkey: readonly string[] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
  more: readonly string[] = [],
): { csr: string; key: string } {
  return inFolder((folder) => {
    const [csr, key] = [join(folder, "csr.pem"), join(folder, "key.pem")];
    const names = san === null ? [] : ["-addext", `subjectAltName=${san}`];
    openssl([
      "req",
      "-new",
      ...newkey,
      "-nodes",
      "-keyout",
      key,
      "-out",
      csr,
      "-subj",
      "/",
      ...names,
      ...more,
    ]);
    return { csr: readFileSync(csr, "utf8"), key: readFileSync(key, "utf8") };
  });
}

/** Runs openssl. @returns what it printed. @throws when it fails. */
export function openssl(args: readonly string[], input?: string): string {
  return execFileSync("openssl", [...args], {
    encoding: "utf8",
    input,
    stdio: ["pipe", "pipe", "pipe"],
  });
}

/** Runs `work` with a temporary folder that is removed afterwards. */
export function inFolder<T>(work: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), "meshca-"));
  try {
    return work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
