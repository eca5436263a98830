/**
 * Leaves that Vault signs: asked for by what was decided, and read back before anybody gets them.
 * @module
 */
import { equal } from "../../src/core/bytes.ts";
import { FormatError } from "../../src/core/errors.ts";
import { type Certificate, readCertificatePem } from "../../src/core/x509/certificate.ts";
import { isSignedBy } from "../../src/core/x509/chain.ts";
import type { LeafFields } from "../../src/core/x509/leaf.ts";
import { lintFields } from "../../src/core/x509/lint.ts";
import { ipText, LEAF_BACKDATE_MS } from "../../src/core/x509/profile.ts";
import type { Mount, VaultClient } from "./client.ts";
import { VaultError } from "./errors.ts";
import { LEAF_ROLE } from "./role.ts";

/**
 * How far Vault's clock may be from ours before the end of a leaf counts as another one, in
 * milliseconds.
 */
export const CLOCK_MS = 60_000;

export interface LeafIssuer {
  readonly mount: Mount;
  readonly issuerId: string;
  readonly certificate: Certificate;
}

/** Has a leaf signed. @throws {VaultError} `answer` where it is not what was asked for */
export async function signInVault(
  client: VaultClient,
  issuer: LeafIssuer,
  fields: LeafFields,
  csr: string,
  now: Date,
): Promise<Certificate> {
  // Vault begins a leaf's life where we do not, so its end is what counts.
  const begin = Math.max(now.getTime(), fields.notBefore.getTime() + LEAF_BACKDATE_MS / 2);
  // One second past the issuer's end, by a clock that is another one, and it would be refused.
  const end = Math.min(fields.notAfter.getTime(), issuer.certificate.notAfter.getTime() - CLOCK_MS);
  const pem = await client.signLeaf(issuer.mount, {
    role: LEAF_ROLE,
    issuerId: issuer.issuerId,
    csr,
    uriSans: [fields.uri],
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
      "answer",
      `Vault: the leaf that it signed is not what was asked for: ${faults.join("; ")}`,
    );
  return leaf;
}

function readLeaf(pem: string): Certificate {
  try {
    return readCertificatePem(pem);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new VaultError(
      "answer",
      `Vault: the leaf that it signed cannot be read: ${error.message}`,
    );
  }
}

/** In what a leaf differs from what was asked for. */
export function faultsOf(leaf: Certificate, issuer: Certificate, fields: LeafFields): string[] {
  const faults = lintFields(leaf, "remote-leaf", issuer).map(
    ({ field, message }) => `${field}: ${message}`,
  );
  if (!equal(leaf.key.spki, fields.spki)) faults.push("its key is another one");
  if (leaf.uris.join(" ") !== fields.uri) faults.push("its SPIFFE ID is another one");
  if (leaf.dnsNames.toSorted().join(" ") !== fields.dnsNames.toSorted().join(" "))
    faults.push("its DNS names are others");
  if (
    leaf.ipAddresses.map(ipText).toSorted().join(" ") !==
    fields.ipAddresses.map(ipText).toSorted().join(" ")
  )
    faults.push("its addresses are others");
  if (!leaf.subjectEmpty) faults.push("it has a subject");
  if (leaf.notAfter.getTime() > fields.notAfter.getTime() + CLOCK_MS)
    faults.push("it lives too long");
  return faults;
}
