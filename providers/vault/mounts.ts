/**
 * What in Vault is ours: by the names that we give, and by the accessor that a mount had when we
 * created it. Nothing else is ever deleted.
 * @module
 */
import { hex } from "../../src/core/bytes.ts";
import { ConfigError } from "../../src/core/errors.ts";
import type { Random } from "../../src/core/ports/clock.ts";
import type { Mount } from "./config.ts";
import { failedBy } from "./errors.ts";
import type { IssuerListing, MountInfo, PkiApi } from "./pki-api.ts";

const PREFIX = "meshca-";

export type Purpose = "root" | "intermediate";

/** A new name for a key or an issuer, by which it is recognized as this cluster's. */
export function newName(clusterId: string, purpose: Purpose, random: Random): string {
  const kind = purpose === "root" ? "root" : "int";
  return `${PREFIX}${clusterId.slice(0, 8).toLowerCase()}-${kind}-${hex(random.bytes(6))}`;
}

export function isOurName(name: string, clusterId: string): boolean {
  return name.startsWith(`${PREFIX}${clusterId.slice(0, 8).toLowerCase()}-`);
}

/** Whether a name was given by the meshca of another cluster. */
export function isOtherCluster(name: string, clusterId: string): boolean {
  return name.startsWith(PREFIX) && !isOurName(name, clusterId);
}

/** The description of a mount of ours. */
export function descriptionOf(clusterId: string, purpose: Purpose): string {
  return `meshca ${clusterId} ${purpose}`;
}

/** The default issuer, if neither we made it nor it is the one in use. */
export function foreignDefault(
  issuers: readonly IssuerListing[],
  usedId: string | null,
  clusterId: string,
): IssuerListing | null {
  const current = issuers.find(({ isDefault }) => isDefault);
  const isForeign =
    current !== undefined && current.id !== usedId && !isOurName(current.name, clusterId);
  return isForeign ? current : null;
}

/** The engine at a path. */
export type FoundMount =
  | { readonly kind: "none" }
  /** The token is not allowed to read whether there is one. */
  | { readonly kind: "denied" }
  /** There is one, of which the token is not allowed to read more. */
  | { readonly kind: "unknown" }
  | {
      readonly kind: "pki";
      readonly accessor: string;
      /** Zero: the limit of the server. */
      readonly maxLeaseTtlMs: number;
      readonly isOurs: boolean;
    };

/**
 * Looks which engine is mounted at a path.
 * @throws {ConfigError} if it is not PKI, or another cluster's @throws {VaultError}
 */
export async function findMount(
  api: PkiApi,
  mount: Mount,
  purpose: Purpose,
  clusterId: string,
): Promise<FoundMount> {
  let info: MountInfo | null;
  try {
    info = await api.readMount(mount);
  } catch (error) {
    if (!failedBy(error, "denied")) throw error;
    return findByCa(api, mount);
  }
  if (info === null) return { kind: "none" };
  const { type, description, accessor, maxLeaseTtlMs } = info;
  const isOurs = description === descriptionOf(clusterId, purpose);
  const at = `${purpose === "root" ? "RootPKIPath" : "IntermediatePKIPath"}: the mount ${JSON.stringify(mount.path)}`;
  if (type !== "pki")
    throw new ConfigError(
      `error configuring provider: ${at} is of type ${type}, not pki; choose another path`,
    );
  if (description.startsWith(`meshca ${clusterId} `) && !isOurs)
    throw new ConfigError(
      `error configuring provider: ${at} was made by meshca for another purpose (${JSON.stringify(description)}); choose another path`,
    );
  if (description.startsWith("meshca ") && !isOurs)
    throw new ConfigError(
      `error configuring provider: ${at} belongs to the meshca of another cluster; choose another path`,
    );
  return { kind: "pki", accessor, maxLeaseTtlMs, isOurs };
}

/**
 * The CA of a mount is readable without permission. If nothing is mounted, Vault denies it to a
 * token without a rule for the path.
 */
async function findByCa(api: PkiApi, mount: Mount): Promise<FoundMount> {
  try {
    await api.readCa(mount);
    return { kind: "unknown" };
  } catch (error) {
    if (failedBy(error, "mount_missing")) return { kind: "none" };
    if (failedBy(error, "denied")) return { kind: "denied" };
    throw error;
  }
}

/**
 * Deletes a mount of ours. One that was replaced since stays.
 * @param accessor null: whichever it has.
 * @param before runs before the deletion; it may throw.
 * @throws {VaultError}
 */
export async function deleteMount(
  api: PkiApi,
  mount: Mount,
  description: string,
  accessor: string | null,
  before: () => void = () => undefined,
): Promise<void> {
  const info = await api.readMount(mount);
  if (info === null || info.description !== description) return;
  if (accessor !== null && info.accessor !== accessor) return;
  before();
  await api.disableMount(mount);
}

/** Deletes an issuer and its key. Succeeds if the mount is gone. @throws {VaultError} */
export async function deleteIssuer(
  api: PkiApi,
  mount: Mount,
  issuerId: string,
  keyId: string,
): Promise<void> {
  try {
    await api.deleteIssuer(mount, issuerId);
    if (keyId !== "") await api.deleteKey(mount, keyId);
  } catch (error) {
    if (!failedBy(error, "mount_missing")) throw error;
  }
}
