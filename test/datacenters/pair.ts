/**
 * A primary and a secondary datacenter in one process, on one fake clock: the real CAs, with the
 * port between them in place of HTTP.
 * @module
 */
import type { CertificateAuthority } from "../../src/core/ca/ca.ts";
import { PrimaryError } from "../../src/core/errors.ts";
import { NOBODY } from "../../src/core/ports/audit.ts";
import type { PrimaryDatacenter, PrimaryListing } from "../../src/core/ports/primary.ts";
import { wireIndex } from "../../src/http/ca-json.ts";
import { createTestCa, type FlatCaOptions, type TestCa } from "../fakes/ca.ts";
import { createFakeClock, type FakeClock } from "../fakes/clock.ts";

/** The roots of a CA as its listing has them. */
export function listingOf({
  state,
  active,
  config,
}: ReturnType<CertificateAuthority["require"]>): PrimaryListing {
  return {
    trustDomain: state.trustDomain,
    clusterId: state.clusterId,
    activeRootId: active.id,
    roots: state.roots.map(({ name, certificate, intermediates, abandoned, lost, status }) => ({
      ...{ name, certificate, abandoned, lost: lost === true },
      prepared: status === "prepared",
      intermediates,
    })),
    dropped: state.dropped.map(({ id, keyId, notAfter }) => ({ id, keyId, notAfter })),
    index: wireIndex(state),
    primacy:
      state.datacenter === null
        ? null
        : {
            datacenter: state.primary?.datacenter ?? state.datacenter,
            promotions: state.promotions,
            leafTtlMs: state.primary === null ? config.leafTtlMs : state.primary.leafTtlMs,
          },
  };
}

export interface TestPrimary extends PrimaryDatacenter {
  /** Whether it is unreachable. */
  away: boolean;
  /** Replaces what it answers. */
  change: {
    listing?: (listing: PrimaryListing) => PrimaryListing;
    sign?: PrimaryDatacenter["signIntermediate"];
  };
  clockOffsetMs: number | null;
  /** Intermediates that it signed. */
  signed: number;
}

export function primaryOf({ manager }: Pick<TestCa, "manager">): TestPrimary {
  const primary: TestPrimary = {
    name: "dc1",
    isConfigured: true,
    away: false,
    change: {},
    signed: 0,
    clockOffsetMs: null,
    maySign: async () => true,
    async roots() {
      requireReachable(primary);
      const listing = listingOf(manager.require());
      return primary.change.listing?.(listing) ?? listing;
    },
    async signIntermediate(csr) {
      requireReachable(primary);
      primary.signed++;
      if (primary.change.sign !== undefined) return primary.change.sign(csr);
      return manager.signIntermediate({ csr, caller: NOBODY, permit: () => undefined });
    },
  };
  return primary;
}

function requireReachable({ away }: TestPrimary): void {
  if (away) throw new PrimaryError("unreachable", "No CA server answered");
}

export interface Pair {
  readonly one: TestCa;
  readonly two: TestCa;
  readonly primary: TestPrimary;
  /** Lets the secondary look at the primary again, and do all that is due. */
  settle(): Promise<void>;
}

/** Two datacenters; the secondary one has joined. */
export async function pair(
  overrides: {
    readonly one?: Omit<Partial<FlatCaOptions>, "clock">;
    readonly two?: Omit<Partial<FlatCaOptions>, "clock">;
    readonly started?: boolean;
    readonly clock?: FakeClock;
  } = {},
): Promise<Pair> {
  const { clock = createFakeClock() } = overrides;
  const one = await createTestCa({ clock, hasDatacenters: true, ...overrides.one });
  const primary = primaryOf(one);
  const two = await createTestCa({
    clock,
    datacenter: "dc2",
    hasDatacenters: true,
    primary,
    ...overrides.two,
    started: false,
  });
  const settle = async () => {
    // Past the age of the last look, and past the pause after a failure.
    clock.advance(300_000);
    for (const ca of [one, two]) await ca.manager.heartbeat();
    for (let i = 0; i < 4; i++) await two.manager.tick();
  };
  if (overrides.started !== false) await two.manager.tick();
  return { one, two, primary, settle };
}
