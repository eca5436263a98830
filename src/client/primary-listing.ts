/**
 * The roots of a primary datacenter with all that a secondary one takes over of them, from GET
 * /v1/connect/ca/roots.
 * @module
 */
import * as v from "valibot";
import { FormatError } from "../core/errors.ts";
import { readPem } from "../core/pem.ts";
import type { Primacy, PrimaryListing } from "../core/ports/primary.ts";
import { MAX_DROPPED } from "../core/state.ts";
import { type Certificate, readCertificate, readCertificatePem } from "../core/x509/certificate.ts";
import { instant } from "../schemas.ts";
import { readRootsListing } from "./roots-listing.ts";

/** More intermediates than a chain within meshca's bounds has (core/ca/timing-and-limits.ts). */
const MAX_INTERMEDIATES = 32;

const Listing = v.object({
  Roots: v.array(
    v.object({
      ID: v.string(),
      Name: v.pipe(v.string(), v.maxLength(256)),
      ExternalTrustDomain: v.pipe(
        v.string(),
        v.toLowerCase(),
        v.regex(/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
      ),
      IntermediateCerts: v.nullish(
        v.pipe(v.array(v.string()), v.maxLength(MAX_INTERMEDIATES)),
        null,
      ),
      Abandoned: v.optional(v.boolean(), false),
      Lost: v.optional(v.boolean(), false),
      Prepared: v.optional(v.boolean(), false),
    }),
  ),
  Dropped: v.optional(
    v.pipe(
      v.array(
        v.pipe(
          v.object({ ID: v.string(), KeyID: v.string(), NotAfter: instant }),
          v.transform(({ ID: id, KeyID: keyId, NotAfter: notAfter }) => ({ id, keyId, notAfter })),
        ),
      ),
      v.maxLength(MAX_DROPPED),
    ),
    [],
  ),
});

/**
 * Reads a listing whole, or not at all.
 * @param index X-Consul-Index of the response. @param primacy from its headers.
 * @throws {FormatError} with the listing as subject
 */
export function readPrimaryListing(
  json: string,
  index: number,
  primacy: Primacy | null,
): PrimaryListing {
  const { trustDomain, roots, activeRootId } = readRootsListing(json);
  const rows = v.safeParse(Listing, JSON.parse(json));
  if (!rows.success) {
    const path = v.getDotPath(rows.issues[0]) ?? "object";
    throw new FormatError(`the listing of roots has no valid ${path}`);
  }
  const byId = new Map(rows.output.Roots.map((row) => [row.ID, row]));
  const clusters = new Set(rows.output.Roots.map((row) => row.ExternalTrustDomain));
  const [clusterId = ""] = clusters;
  if (clusters.size !== 1)
    throw new FormatError("the listing of roots names several clusters as ExternalTrustDomain");
  return {
    ...{ trustDomain, clusterId, activeRootId, index, primacy },
    dropped: rows.output.Dropped,
    roots: roots.map((certificate) => {
      const row = byId.get(certificate.id);
      return {
        name: row?.Name ?? "",
        certificate,
        intermediates: (row?.IntermediateCerts ?? []).map((pem, i) =>
          intermediateOf(pem, certificate.id, i),
        ),
        abandoned: row?.Abandoned ?? false,
        lost: row?.Lost ?? false,
        prepared: row?.Prepared ?? false,
      };
    }),
  };
}

function intermediateOf(pem: string, rootId: string, i: number) {
  try {
    return readCertificatePem(pem);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(
      `the intermediate ${i + 1} of the root ${rootId} cannot be read: ${error.message}`,
    );
  }
}

const Signed = v.object({ CertPEM: v.string() });

/**
 * Reads the response of PUT /v1/connect/ca/sign-intermediate.
 * @returns the certificate of the request first, unchecked. @throws {FormatError}
 */
export function readSignedIntermediate(json: string): readonly Certificate[] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), Signed), json);
  if (!parsed.success) throw new FormatError("the response for an intermediate has no CertPEM");
  return readPem(parsed.output.CertPEM).map(({ bytes }) => readCertificate(bytes));
}

const Allowed = v.strictTuple([v.object({ Allow: v.boolean() })]);

/** Reads the answer to one question of POST /v1/internal/acl/authorize. @throws {FormatError} */
export function readAllowed(json: string): boolean {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), Allowed), json);
  if (!parsed.success) throw new FormatError("the response about a token has no Allow");
  return parsed.output[0].Allow;
}
