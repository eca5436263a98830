/**
 * Leaves that Vault signs: requested with the fields that were decided, and checked against them.
 * @module
 */
import { equal } from "../../src/core/bytes.ts";
import { FormatError } from "../../src/core/errors.ts";
import { type Certificate, readCertificatePem } from "../../src/core/x509/certificate.ts";
import { isSignedBy } from "../../src/core/x509/chain.ts";
import { ipText, type LeafFields } from "../../src/core/x509/leaf.ts";
import { lintFields } from "../../src/core/x509/lint.ts";
import type { Mount } from "./config.ts";
import { VaultError } from "./errors.ts";
import type { PkiApi } from "./pki-api.ts";
import { LEAF_ROLE } from "./role.ts";

/** How far Vault's clock may be from ours, in milliseconds. */
export const CLOCK_MS = 60_000;

/**
 * Vault dates leaves back by `not_before_duration` of the role, which has this default, and no call
 * changes it. At five minutes that is a tenth of a leaf's life.
 */
export const VAULT_LEAF_LIMITS = { minTtlMs: 300_000, backdateMs: 30_000 } as const;

export interface LeafIssuer {
  readonly mount: Mount;
  readonly issuerId: string;
  readonly certificate: Certificate;
}

/** Has a leaf signed. @throws {VaultError} `malformed_response` if it differs from the request */
export async function signInVault(
  api: PkiApi,
  issuer: LeafIssuer,
  fields: LeafFields,
  csr: string,
  now: Date,
): Promise<Certificate> {
  // Vault decides when a leaf's life begins, so only its end is held.
  const begin = Math.max(now.getTime(), fields.notBefore.getTime() + VAULT_LEAF_LIMITS.backdateMs);
  // Vault refuses a leaf that expires after its issuer, by Vault's own clock.
  const end = Math.min(fields.notAfter.getTime(), issuer.certificate.notAfter.getTime() - CLOCK_MS);
  const pem = await api.signLeaf(issuer.mount, {
    role: LEAF_ROLE,
    issuerId: issuer.issuerId,
    csr,
    uri: fields.uri,
    dnsNames: fields.dnsNames,
    ipAddresses: fields.ipAddresses.map(ipText),
    ttlMs: end - begin,
  });
  const leaf = readLeaf(pem);
  const faults = faultsOf(leaf, issuer.certificate, fields);
  if (!(await isSignedBy(leaf, issuer.certificate)))
    faults.push("its signature is not the issuer's");
  if (faults.length > 0)
    throw new VaultError(
      "malformed_response",
      `Vault: the leaf that it signed at ${JSON.stringify(issuer.mount.path)} differs from what was requested, and is not issued: ${faults.join("; ")}; check the role ${LEAF_ROLE}`,
    );
  return leaf;
}

function readLeaf(pem: string): Certificate {
  try {
    return readCertificatePem(pem);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new VaultError(
      "malformed_response",
      `Vault: the leaf that it signed is unreadable: ${error.message}`,
    );
  }
}

/** How a leaf differs from the fields that were requested. */
export function faultsOf(leaf: Certificate, issuer: Certificate, fields: LeafFields): string[] {
  const faults = lintFields(leaf, "remote-leaf", issuer);
  if (!equal(leaf.key.spki, fields.spki)) faults.push("its key differs");
  if (leaf.uris.join(" ") !== fields.uri) faults.push("its SPIFFE ID differs");
  if (leaf.dnsNames.toSorted().join(" ") !== fields.dnsNames.toSorted().join(" "))
    faults.push("its DNS names differ");
  if (
    leaf.ipAddresses.map(ipText).toSorted().join(" ") !==
    fields.ipAddresses.map(ipText).toSorted().join(" ")
  )
    faults.push("its IP addresses differ");
  if (!leaf.subjectEmpty) faults.push("it has a subject");
  if (leaf.notAfter.getTime() > fields.notAfter.getTime() + CLOCK_MS)
    faults.push("it expires too late");
  return faults;
}
