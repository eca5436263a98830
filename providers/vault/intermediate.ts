/**
 * The intermediate that signs leaves: its key in Vault, pinned by the id of its issuer, or sealed
 * with us.
 * @module
 */
import { hex } from "../../src/core/bytes.ts";
import { ConfigError, FormatError, RequestError } from "../../src/core/errors.ts";
import { readPem } from "../../src/core/pem.ts";
import type { SealPurpose } from "../../src/core/ports/sealer.ts";
import { caCommonName, generateCaKey, signingUri } from "../../src/core/x509/authority.ts";
import { type Certificate, pemOf, readCertificate } from "../../src/core/x509/certificate.ts";
import { readCaRequest } from "../../src/core/x509/csr.ts";
import { intermediateFaults } from "../../src/core/x509/intermediate.ts";
import { keyIdOf, type PublicKeyInfo } from "../../src/core/x509/keys.ts";
import { makeCaRequest } from "../../src/core/x509/request.ts";
import type { Mount, VaultClient } from "./client.ts";
import type { VaultConfig } from "./config.ts";
import type { Work } from "./context.ts";
import { VaultError } from "./errors.ts";
import {
  deleteIssuer,
  deleteMount,
  descriptionOf,
  findMount,
  isOurName,
  newName,
} from "./mounts.ts";
import { ensureRole, roleFields } from "./role.ts";
import { tooOld, type VaultRoot } from "./root.ts";
import type { IntermediateFacts } from "./vault-state.ts";

export interface VaultIntermediate {
  readonly facts: IntermediateFacts;
  /** Sealed, where we hold it. */
  readonly key: string | null;
}

/** So much sooner than what is above it an intermediate ends: Vault's clock may be another one. */
const MARGIN_MS = 60_000;

/** A key for an intermediate. */
export interface Requested {
  readonly csr: string;
  readonly key: PublicKeyInfo;
  /** Puts the key to use once it is certified. @throws {VaultError} @throws {SealError} */
  finish(work: Work, certificate: Certificate): Promise<VaultIntermediate>;
}

/** Makes a key for an intermediate, and its request. @throws {ConfigError} @throws {VaultError} */
export function requestKey(work: Work, config: VaultConfig): Promise<Requested> {
  return config.leafSigning === "vault" ? requestInVault(work, config) : requestHere(work, config);
}

/** The key stays in Vault. */
async function requestInVault(work: Work, config: VaultConfig): Promise<Requested> {
  const { client, clusterId, random, onAbandon } = work;
  const mount = config.intermediate;
  const { accessor, isOurs } = await ensureMount(work, config);
  await requireUnshared(client, mount, clusterId);
  const name = newName(clusterId, "int", random);
  onAbandon((later) => gone(later, mount, () => later.deleteKey(mount, name)));
  const { csr, keyId } = await client.generateIntermediate(mount, {
    commonName: caCommonName("sec", "vault", clusterId, random),
    uriSans: [signingUri(clusterId)],
    keySpec: config.keySpec,
    keyName: name,
  });
  if (keyId === null) throw tooOld();
  return {
    csr,
    key: await keyOf(csr, clusterId),
    async finish({ client, onAbandon }, certificate) {
      onAbandon((later) => gone(later, mount, () => deleteByKey(later, mount, keyId)));
      const issuerId = await importSigned(client, mount, pemOf(certificate), keyId);
      await client.updateIssuer(mount, issuerId, { issuer_name: name });
      await ensureRole(client, mount, roleFields(clusterId, config.leafTtlMs), onAbandon);
      return { facts: { mount, accessor, isOurs, certificate, issuerId, keyId }, key: null };
    },
  };
}

/** We hold the key, sealed. */
async function requestHere({ clusterId, random }: Work, config: VaultConfig): Promise<Requested> {
  const { info, privateKey } = await generateCaKey(config.keySpec);
  return {
    csr: await makeCaRequest(
      { info, privateKey },
      caCommonName("sec", "vault", clusterId, random),
      signingUri(clusterId),
    ),
    key: info,
    async finish({ sealer }, certificate) {
      const key = await sealer.sealKey(privateKey, purposeOf(info, clusterId));
      return {
        facts: {
          mount: config.intermediate,
          accessor: null,
          isOurs: false,
          certificate,
          issuerId: null,
          keyId: null,
        },
        key,
      };
    },
  };
}

async function keyOf(csr: string, clusterId: string): Promise<PublicKeyInfo> {
  try {
    return (await readCaRequest(csr, signingUri(clusterId))).key;
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    throw new VaultError(
      "answer",
      `Vault: the request that it made is not what was asked for: ${error.message}`,
    );
  }
}

/** Keys are sealed by key identifier, as the built-in provider does. */
export function purposeOf(info: PublicKeyInfo, clusterId: string): SealPurpose {
  return { clusterId, purpose: "ca-key", id: hex(keyIdOf(info.spki)) };
}

async function ensureMount(
  work: Work,
  config: VaultConfig,
): Promise<{ accessor: string | null; isOurs: boolean }> {
  const { client, clusterId, onAbandon } = work;
  const mount = config.intermediate;
  const found = await findMount(client, mount, "IntermediatePKIPath", clusterId);
  if (found.kind === "unknown") return { accessor: null, isOurs: false };
  if (found.kind === "pki") return { accessor: found.info.accessor, isOurs: found.isOurs };
  onAbandon((later) =>
    deleteMount(later, mount, { clusterId, what: "intermediate", accessor: null }),
  );
  const description = descriptionOf(clusterId, "intermediate");
  await client.enableMount(mount, {
    type: "pki",
    description,
    maxLeaseTtlMs: config.intermediateTtlMs,
    defaultLeaseTtlMs: null,
  });
  const made = await findMount(client, mount, "IntermediatePKIPath", clusterId);
  return made.kind === "pki"
    ? { accessor: made.info.accessor, isOurs: true }
    : { accessor: null, isOurs: false };
}

/**
 * Two clusters at one mount would share a role, and with it each other's trust domain.
 * @throws {ConfigError}
 */
async function requireUnshared(
  client: VaultClient,
  mount: Mount,
  clusterId: string,
): Promise<void> {
  const other = (await client.listIssuers(mount)).find(
    ({ name }) => name.startsWith("meshca-") && !isOurName(name, clusterId),
  );
  if (other !== undefined)
    throw new ConfigError(
      `error configuring provider: IntermediatePKIPath: the mount ${JSON.stringify(mount.path)} has issuers of another cluster's meshca`,
    );
}

/**
 * Has the root certify the intermediate of another datacenter.
 * @throws {RequestError}
 * @throws {VaultError}
 */
export async function certifyOther(
  work: Work,
  config: VaultConfig,
  root: VaultRoot,
  csr: string,
): Promise<readonly Certificate[]> {
  const { key } = await readCaRequest(csr, signingUri(work.clusterId));
  return [await certify(work, config, root, { csr, key }), ...root.path];
}

/**
 * Has the root certify a request, and checks what came back.
 * @throws {VaultError} `answer` where it is not what was asked for
 */
export async function certify(
  work: Work,
  config: VaultConfig,
  root: VaultRoot,
  { csr, key }: Pick<Requested, "csr" | "key">,
): Promise<Certificate> {
  const { client, now, warn, clusterId } = work;
  const above = [...root.path, root.certificate];
  const end = Math.min(
    now.getTime() + config.intermediateTtlMs,
    ...above.map(({ notAfter }) => notAfter.getTime() - MARGIN_MS),
  );
  const ttlMs = end - now.getTime();
  if (ttlMs <= 0)
    throw new ConfigError(
      "The root in Vault, or one above it, ends within a minute: an intermediate cannot be made",
    );
  const issued = await client.signIntermediate(root.facts.mount, root.facts.issuerId, {
    csr,
    ttlMs,
    maxPathLength: 0,
  });
  const [first] = readPem(issued.certificate);
  const read = readIt(first?.bytes);
  const faults = await intermediateFaults(read, key, above[0] as Certificate, clusterId);
  if (faults.length > 0)
    throw new VaultError(
      "answer",
      `Vault: the intermediate that it signed is not what was asked for: ${faults.join("; ")}`,
    );
  if (read.notAfter.getTime() < now.getTime() + config.intermediateTtlMs - 3_600_000)
    warn(
      `The intermediate ends at ${read.notAfter.toISOString()}, sooner than IntermediateCertTTL says: Vault's root mount has a lower max_lease_ttl, or its root ends then`,
    );
  return read;
}

function readIt(der: Uint8Array | undefined): Certificate {
  try {
    if (der !== undefined) return readCertificate(der);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
  throw new VaultError("answer", "Vault: what it signed as intermediate cannot be read");
}

/** Vault before 1.15 may answer 500 although it imported (vault.md §2.6): so it is looked for. */
async function importSigned(
  client: VaultClient,
  mount: Mount,
  pem: string,
  keyId: string,
): Promise<string> {
  try {
    const { mapping } = await client.setSigned(mount, pem);
    if (mapping === null) throw tooOld();
    const [issuerId] = Object.entries(mapping).find(([, key]) => key === keyId) ?? [];
    if (issuerId !== undefined) return issuerId;
  } catch (error) {
    const found =
      error instanceof VaultError && error.reason === "failing"
        ? await findByKey(client, mount, keyId)
        : undefined;
    if (found === undefined) throw error;
    return found;
  }
  throw new VaultError(
    "answer",
    "Vault: it does not say as what issuer it imported the intermediate",
  );
}

async function findByKey(
  client: VaultClient,
  mount: Mount,
  keyId: string,
): Promise<string | undefined> {
  return (await client.listIssuers(mount)).find((issuer) => issuer.keyId === keyId)?.id;
}

async function deleteByKey(client: VaultClient, mount: Mount, keyId: string): Promise<void> {
  const issuerId = await findByKey(client, mount, keyId);
  if (issuerId !== undefined) await deleteIssuer(client, mount, issuerId, keyId);
}

/** Undoes something in a mount, unless the mount is gone with all that was in it. */
async function gone(client: VaultClient, mount: Mount, undo: () => Promise<void>): Promise<void> {
  if ((await client.readMount(mount).catch(ignoreDenied)) !== null) await undo();
}

function ignoreDenied(error: unknown): undefined {
  if (error instanceof VaultError && error.reason === "denied") return undefined;
  throw error;
}
