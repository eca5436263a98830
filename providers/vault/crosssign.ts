/**
 * Has the root in Vault certify another root, by the issuer's own path, which needs no sudo, or by
 * the mount's.
 * @module
 */

import { FormatError, ProviderError } from "../../src/core/errors.ts";
import { readPem } from "../../src/core/pem.ts";
import { type CrossSignOptions, crossSignTemplate } from "../../src/core/x509/authority.ts";
import {
  type Certificate,
  inForce,
  pemOf,
  readCertificate,
} from "../../src/core/x509/certificate.ts";
import { couldHaveIssued, isSignedBy, sameAuthority } from "../../src/core/x509/chain.ts";
import type { IssuerListing, VaultClient } from "./client.ts";
import { VaultError } from "./errors.ts";
import { missing, type Need, need, preflight } from "./preflight.ts";
import type { VaultRoot } from "./root.ts";
import type { RootFacts } from "./vault-state.ts";

/**
 * Certifies a root.
 * @param own the root that peers trust; with an external one above Vault, the path down to Vault's
 * issuer comes along.
 * @throws {ProviderError} @throws {ConfigError} where the token may not
 */
export async function crossSignInVault(
  client: VaultClient,
  { certificate: own, facts, path }: VaultRoot,
  root: Certificate,
  options: CrossSignOptions,
): Promise<readonly Certificate[]> {
  const issuer = path[0] ?? own;
  if (!inForce(issuer, options.now))
    throw new ProviderError("provider_rejected", "root certificate is expired");
  // Vault takes subject, key, validity and extensions from what it is handed, looks whether that is
  // self-issued, and does not verify its signature (builtin/logical/pki/path_root.go,
  // pathIssuerSignSelfIssued): the root itself would give the root's life.
  const template = await crossSignTemplate(root, issuer, options);
  const crossed = readCross(await sign(client, facts, pemOf(template)));
  const fits =
    sameAuthority(crossed, root) &&
    couldHaveIssued(issuer, crossed) &&
    crossed.notAfter <= template.notAfter &&
    (await isSignedBy(crossed, issuer));
  if (!fits)
    throw new VaultError(
      "answer",
      "Vault: the cross-signed certificate that it made is not what was asked for",
    );
  return [crossed, ...path];
}

/**
 * Looks whether the token may have a root certify another one.
 * @throws {ConfigError} naming what it lacks @throws {ProviderError} where the issuer is gone
 * @throws {VaultError}
 */
export async function requireCrossSigning(client: VaultClient, facts: RootFacts): Promise<void> {
  requireIssuer(await client.listIssuers(facts.mount), facts);
  const own = needToCross(facts);
  const byMount = need(facts.mount, "root/sign-self-issued", ["sudo", "update"], own.purpose);
  try {
    if ((await missing(client, [own])).length === 0) return;
    if ((await missing(client, [byMount])).length > 0) await preflight(client, [own]);
  } catch (error) {
    // A token that may not ask what it may do is told when it does.
    if (!(error instanceof VaultError) || error.reason !== "denied") throw error;
  }
}

/** @throws {ProviderError} where it is gone */
function requireIssuer(issuers: readonly IssuerListing[], { issuerId }: RootFacts): IssuerListing {
  const issuer = issuers.find(({ id }) => id === issuerId);
  if (issuer === undefined)
    throw new ProviderError(
      "provider_rejected",
      "its issuer or the issuer's key is gone from Vault",
    );
  return issuer;
}

function needToCross({ mount, issuerId }: RootFacts): Need {
  return need(
    mount,
    `issuer/${issuerId}/sign-self-issued`,
    ["update"],
    "certify the new root by the old one",
  );
}

async function sign(client: VaultClient, facts: RootFacts, pem: string): Promise<string> {
  const { mount, issuerId } = facts;
  try {
    return (await client.signSelfIssued(mount, issuerId, pem)).certificate;
  } catch (error) {
    // Of an issuer that is gone Vault says 500.
    if (
      !(error instanceof VaultError) ||
      !["denied", "mount_type", "not_found", "failing"].includes(error.reason)
    )
      throw error;
    const issuer = requireIssuer(await client.listIssuers(mount), facts);
    if (error.reason === "failing") throw error;
    const other = issuer.isDefault ? await byMount(client, mount, pem) : null;
    if (other !== null) return other;
    // What is missing is named by path and capability.
    await preflight(client, [needToCross(facts)]);
    throw error;
  }
}

/** Older servers know the mount's path alone, which needs sudo. */
async function byMount(
  client: VaultClient,
  mount: RootFacts["mount"],
  pem: string,
): Promise<string | null> {
  try {
    return (await client.signSelfIssued(mount, null, pem)).certificate;
  } catch (error) {
    if (error instanceof VaultError && error.reason === "denied") return null;
    throw error;
  }
}

function readCross(pem: string): Certificate {
  try {
    const [block] = readPem(pem);
    if (block !== undefined) return readCertificate(block.bytes);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
  throw new VaultError("answer", "Vault: the cross-signed certificate that it made cannot be read");
}
