/**
 * The intermediate that signs leaves: its key is in Vault, pinned by the id of its issuer, or
 * sealed with the CA's state.
 * @module
 */
import { hex } from "../../src/core/bytes.ts";
import { ConfigError, RequestError } from "../../src/core/errors.ts";
import type { SealPurpose } from "../../src/core/ports/sealer.ts";
import { caCommonName, generateCaKey, signingUri } from "../../src/core/x509/authority.ts";
import { readCaRequest } from "../../src/core/x509/ca-request.ts";
import { type Certificate, pemOf } from "../../src/core/x509/certificate.ts";
import { intermediateFaults } from "../../src/core/x509/intermediate.ts";
import { keyIdOf, type PublicKeyInfo } from "../../src/core/x509/keys.ts";
import { makeCaRequest } from "../../src/core/x509/request.ts";
import type { Mount, VaultConfig } from "./config.ts";
import type { ChangeContext } from "./context.ts";
import { failedBy, VaultError } from "./errors.ts";
import { deleteIssuer, newName } from "./mounts.ts";
import type { PkiApi } from "./pki-api.ts";
import { readFirst } from "./responses.ts";
import type { VaultRoot } from "./root.ts";

/** How much earlier than its issuers an intermediate expires: Vault's clock may differ. */
const MARGIN_MS = 60_000;
/** By how much a lifetime may be shorter than configured without a warning. */
export const TOLERANCE_MS = 3_600_000;

/** A key with the request for its certificate. */
interface IssuerKey {
  readonly csr: string;
  readonly info: PublicKeyInfo;
}

export interface KeyInVault extends IssuerKey {
  readonly keyId: string;
  /** The name of the key, and of the issuer to be. */
  readonly name: string;
}

export interface LocalKey extends IssuerKey {
  readonly privateKey: CryptoKey;
}

/** @throws {ConfigError} @throws {VaultError} */
export async function generateKey(
  context: ChangeContext,
  { keySpec }: VaultConfig,
  mount: Mount,
): Promise<KeyInVault> {
  const { api, clusterId, trustDomain, random, onRollback } = context;
  const name = newName(context, "intermediate", random);
  onRollback((later) => ifMounted(later, mount, () => later.deleteKey(mount, name)));
  const uri = signingUri({ trustDomain });
  const { csr, keyId } = await api.generateIntermediate(mount, {
    commonName: caCommonName("sec", "vault", clusterId, random),
    uri,
    keySpec,
    keyName: name,
  });
  return { csr, keyId, name, info: await keyOf(csr, uri) };
}

export async function generateLocalKey(
  { clusterId, trustDomain, random }: ChangeContext,
  { keySpec }: VaultConfig,
): Promise<LocalKey> {
  const key = await generateCaKey(keySpec);
  const name = caCommonName("sec", "vault", clusterId, random);
  return { ...key, csr: await makeCaRequest(key, name, signingUri({ trustDomain })) };
}

async function keyOf(csr: string, uri: string): Promise<PublicKeyInfo> {
  try {
    return (await readCaRequest(csr, uri)).key;
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    throw new VaultError(
      "malformed_response",
      `Vault: the certificate request that it generated for an intermediate differs from what was requested: ${error.message}`,
    );
  }
}

/** Keys are sealed by key identifier, as those of the built-in provider are. */
export function purposeOf({ spki }: PublicKeyInfo, clusterId: string): SealPurpose {
  return { clusterId, purpose: "ca-key", id: hex(keyIdOf(spki)) };
}

/**
 * Has the root certify a request, and checks the result.
 * @throws {ConfigError} if the root, or a CA above it, is about to expire
 * @throws {VaultError}
 */
export async function certifyIntermediate(
  { api, now, warn, trustDomain }: Pick<ChangeContext, "api" | "now" | "warn" | "trustDomain">,
  { intermediateTtlMs }: VaultConfig,
  root: VaultRoot,
  { csr, info }: IssuerKey,
): Promise<Certificate> {
  const issuers = [...root.path, root.certificate];
  const wantedEnd = now.getTime() + intermediateTtlMs;
  const end = Math.min(wantedEnd, ...issuers.map(({ notAfter }) => notAfter.getTime() - MARGIN_MS));
  const ttlMs = end - now.getTime();
  const { mount, issuerId } = root.state;
  if (ttlMs <= 0)
    throw new ConfigError(
      `Cannot certify an intermediate: the root in Vault at ${JSON.stringify(mount.path)}, or a CA above it, expires within a minute; generate another root and rotate`,
    );
  const pem = await api.signIntermediate(mount, issuerId, csr, ttlMs);
  const certificate = readFirst(pem, "intermediate");
  const faults = await intermediateFaults(certificate, info, issuers[0] as Certificate, {
    trustDomain,
  });
  if (faults.length > 0)
    throw new VaultError(
      "malformed_response",
      `Vault: the intermediate that it signed at ${JSON.stringify(mount.path)} differs from what was requested: ${faults.join("; ")}`,
    );
  if (certificate.notAfter.getTime() < wantedEnd - TOLERANCE_MS)
    warn(
      `The intermediate expires at ${certificate.notAfter.toISOString()}, earlier than IntermediateCertTTL requires: the root's mount ${JSON.stringify(mount.path)} in Vault has a lower max_lease_ttl, or its root expires then`,
    );
  return certificate;
}

/** Imports a certificate next to its key, and names the issuer. @returns its id @throws {VaultError} */
export async function importIntermediate(
  { api, onRollback }: ChangeContext,
  mount: Mount,
  { keyId, name }: KeyInVault,
  certificate: Certificate,
): Promise<string> {
  onRollback((later) => ifMounted(later, mount, () => deleteByKey(later, mount, keyId)));
  const issuerId = await setSigned(api, mount, pemOf(certificate), keyId);
  await api.updateIssuer(mount, issuerId, { issuer_name: name });
  return issuerId;
}

/** Vault before 1.15 may answer 500 although it imported: so the issuer is looked up. */
async function setSigned(api: PkiApi, mount: Mount, pem: string, keyId: string): Promise<string> {
  try {
    const mapping = await api.setSigned(mount, pem);
    const [issuerId] = Object.entries(mapping).find(([, key]) => key === keyId) ?? [];
    if (issuerId !== undefined) return issuerId;
  } catch (error) {
    const found = failedBy(error, "failing") ? await findByKey(api, mount, keyId) : undefined;
    if (found === undefined) throw error;
    return found;
  }
  throw new VaultError(
    "malformed_response",
    `Vault: POST ${mount.path}/intermediate/set-signed: the response does not name the issuer of the imported intermediate`,
  );
}

async function findByKey(api: PkiApi, mount: Mount, keyId: string): Promise<string | undefined> {
  return (await api.listIssuers(mount)).find((issuer) => issuer.keyId === keyId)?.id;
}

async function deleteByKey(api: PkiApi, mount: Mount, keyId: string): Promise<void> {
  const issuerId = await findByKey(api, mount, keyId);
  if (issuerId !== undefined) await deleteIssuer(api, mount, issuerId, keyId);
}

/** Runs a compensating action, unless the mount with all its contents was deleted. */
async function ifMounted(api: PkiApi, mount: Mount, act: () => Promise<void>): Promise<void> {
  const info = await api.readMount(mount).catch((error: unknown) => {
    if (failedBy(error, "denied")) return undefined;
    throw error;
  });
  if (info !== null) await act();
}
