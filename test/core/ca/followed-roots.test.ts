/**
 * The rows of a secondary datacenter for every way in which the primary may list a root that it has:
 * one row is active, and no root under which it signed leaves is lost.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { followedRoots } from "../../../src/core/ca/followed-roots.ts";
import { presentIssuer } from "../../../src/core/ca/leaf-issuers.ts";
import type { PrimaryListing } from "../../../src/core/ports/primary.ts";
import type { RootEntry } from "../../../src/core/state.ts";
import { listingOf } from "../../datacenters/pair.ts";
import { createTestCa } from "../../fakes/ca.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };

describe("followedRoots", () => {
  let rows: readonly RootEntry[];
  let listing: PrimaryListing;
  before(async () => {
    const { manager } = await createTestCa({ hasDatacenters: true });
    await manager.rotate(NOW);
    rows = manager.require().state.roots;
    listing = listingOf(manager.require());
  });

  const LISTED = ["prepared", "retired", "absent"] as const;
  /** What becomes of a root with a status that is listed otherwise; null: it is dropped. */
  const EXPECTED = {
    active: { prepared: "retired", retired: "retired", absent: "retired" },
    retired: { prepared: "retired", retired: "retired", absent: "retired" },
    prepared: { prepared: "prepared", retired: "retired", absent: null },
  } as const;
  for (const known of ["active", "retired", "prepared"] as const)
    for (const listed of LISTED)
      it(`a root that is ${known} and listed as ${listed} becomes ${EXPECTED[known][listed] ?? "none"}`, () => {
        const id = listing.activeRootId;
        const row = rows.find((each) => each.id !== id) ?? assert.fail("no other root");
        const issuers = known === "prepared" ? [] : [presentIssuer(row.certificate)];
        const now = new Date("2026-06-02T00:00:00Z");
        const next = followedRoots(
          [{ ...row, status: known, leafIssuers: issuers }],
          {
            ...listing,
            roots: listing.roots.flatMap((root) =>
              root.certificate.id === id
                ? [root]
                : listed === "absent"
                  ? []
                  : [{ ...root, prepared: listed === "prepared" }],
            ),
          },
          { clusterId: row.externalTrustDomain, issuing: null, leafTtlMs: 0, now },
        );
        assert.deepEqual(
          next.filter(({ status }) => status === "active").map((each) => each.id),
          [id],
        );
        const result = next.find((each) => each.id === row.id);
        assert.equal(result?.status ?? null, EXPECTED[known][listed]);
        // Its leaves renew as before.
        if (result !== undefined)
          assert.deepEqual(
            result.leafIssuers.map(({ keyId }) => keyId),
            issuers.map(({ keyId }) => keyId),
          );
      });
});
