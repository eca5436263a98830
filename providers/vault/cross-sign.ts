/**
 * Has the root in Vault certify another root: by the path of its issuer, which needs no sudo, or by
 * the mount's.
 * @module
 */
import { ProviderError } from "../../src/core/errors.ts";
import { type CrossSignOptions, crossSignTemplate } from "../../src/core/x509/authority.ts";
import { type Certificate, inForce, pemOf } from "../../src/core/x509/certificate.ts";
import { couldHaveIssued, isSignedBy, sameAuthority } from "../../src/core/x509/chain.ts";
import { failedBy, nullIf, VaultError } from "./errors.ts";
import { missingPermissions, permissionsOf, requirePermissions } from "./permissions.ts";
import type { IssuerListing, PkiApi } from "./pki-api.ts";
import { readFirst } from "./responses.ts";
import type { VaultRoot } from "./root.ts";
import type { RootState } from "./vault-state.ts";

/**
 * Certifies a root.
 * @param own the root that peers trust.
 * @returns the cross-signed certificate, then those between it and the root.
 * @throws {ProviderError} @throws {ConfigError} if the token is not allowed to
 */
export async function crossSignInVault(
  api: PkiApi,
  { certificate: own, state, path }: VaultRoot,
  root: Certificate,
  options: CrossSignOptions,
): Promise<readonly Certificate[]> {
  const issuer = path[0] ?? own;
  if (!inForce(issuer, options.now))
    throw new ProviderError("provider_rejected", "root certificate is expired");
  // Vault takes subject, key, validity and extensions from the certificate that it gets, checks
  // that it is self-issued, and does not verify its signature (builtin/logical/pki/path_root.go,
  // pathIssuerSignSelfIssued): the root itself would give the root's lifetime.
  const template = await crossSignTemplate(root, issuer, options);
  const crossed = readFirst(await sign(api, state, pemOf(template)), "cross-signed certificate");
  const fits =
    sameAuthority(crossed, root) &&
    couldHaveIssued(issuer, crossed) &&
    crossed.notAfter <= template.notAfter &&
    (await isSignedBy(crossed, issuer));
  if (!fits)
    throw new VaultError(
      "malformed_response",
      `Vault: the cross-signed certificate that it signed at ${JSON.stringify(state.mount.path)} differs from what was requested`,
    );
  return [crossed, ...path];
}

/**
 * Checks whether the token is allowed to have a root certify another one.
 * @throws {ConfigError} with the missing permission @throws {ProviderError} if the issuer is gone
 */
export async function requireCrossSigning(api: PkiApi, root: RootState): Promise<void> {
  requireIssuer(await api.listIssuers(root.mount), root);
  const own = permissionsOf({ kind: "cross-sign", ...root });
  const byMount = permissionsOf({ kind: "cross-sign", ...root, issuerId: null });
  try {
    if ((await missingPermissions(api, own)).length === 0) return;
    if ((await missingPermissions(api, byMount)).length > 0) await requirePermissions(api, own);
  } catch (error) {
    // A token that is not allowed to ask for its permissions fails when it signs.
    if (!failedBy(error, "denied")) throw error;
  }
}

function requireIssuer(issuers: readonly IssuerListing[], root: RootState): IssuerListing {
  const issuer = issuers.find(({ id }) => id === root.issuerId);
  if (issuer === undefined)
    throw new ProviderError(
      "provider_rejected",
      `Vault: the root's issuer at ${JSON.stringify(root.mount.path)}, or its key, was deleted, so it cannot certify another root; rotate with ForceWithoutCrossSigning`,
    );
  return issuer;
}

async function sign(api: PkiApi, root: RootState, pem: string): Promise<string> {
  const { mount, issuerId } = root;
  try {
    return await api.signSelfIssued(mount, issuerId, pem);
  } catch (error) {
    // For an issuer that is gone Vault answers 500.
    if (!failedBy(error, "denied", "mount_type", "not_found", "failing")) throw error;
    const issuer = requireIssuer(await api.listIssuers(mount), root);
    if (error.reason === "failing") throw error;
    // Older servers have the mount's path only, which needs sudo.
    const signed = issuer.isDefault
      ? await nullIf(api.signSelfIssued(mount, null, pem), "denied")
      : null;
    if (signed !== null) return signed;
    await requirePermissions(api, permissionsOf({ kind: "cross-sign", ...root }));
    throw error;
  }
}
