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
import { CLOCK_MS, VAULT_LEAF_LIMITS } from "./limits.ts";
import type { PkiApi } from "./pki-api.ts";
import { LEAF_ROLE } from "./role.ts";

/** Certificates have whole seconds. */
const SECOND_MS = 1000;

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
): Promise<Certificate> {
  // Vault takes a lifetime from its own present. From the draft, so that it is not shorter by the
  // seconds that the call waited: renewals of renewals would be shorter and shorter.
  const begin = fields.notBefore.getTime() + VAULT_LEAF_LIMITS.backdateMs;
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
  // Whatever the two clocks are: a renewal by the leaf's own key is valid as long as the leaf was.
  const validMs = leaf.notAfter.getTime() - leaf.notBefore.getTime();
  if (validMs > end - begin + VAULT_LEAF_LIMITS.backdateMs + SECOND_MS)
    faults.push("it is valid for longer than requested");
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
