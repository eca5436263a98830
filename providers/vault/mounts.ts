/**
 * What in Vault is of this datacenter: by the names that it gives, and by the accessor that a mount
 * had when it was created. Nothing else is ever deleted. All datacenters of a mesh have one cluster
 * ID, so the names tell the datacenter too. Those of a deployment of one datacenter do not: such
 * objects are of the primary datacenter once there are others.
 * @module
 */
import { hex } from "../../src/core/bytes.ts";
import { ConfigError } from "../../src/core/errors.ts";
import type { Random } from "../../src/core/ports/clock.ts";
import type { ResourceOwner } from "../../src/core/ports/provider.ts";
import type { Mount } from "./config.ts";
import { failedBy } from "./errors.ts";
import type { IssuerListing, MountInfo, PkiApi } from "./pki-api.ts";

const PREFIX = "meshca-";

export type Purpose = "root" | "intermediate";

const prefixOf = ({ clusterId }: Pick<ResourceOwner, "clusterId">): string =>
  `${PREFIX}${clusterId.slice(0, 8).toLowerCase()}-`;

/** A new name for a key or an issuer, by which it is recognized as this datacenter's. */
export function newName(owner: ResourceOwner, purpose: Purpose, random: Random): string {
  const kind = purpose === "root" ? "root" : "int";
  const datacenter = owner.datacenter === null ? "" : `${owner.datacenter}-`;
  return `${prefixOf(owner)}${kind}-${datacenter}${hex(random.bytes(6))}`;
}

/** Whether a name was given by the meshca of this cluster, in any datacenter. */
export function isOurName(name: string, owner: Pick<ResourceOwner, "clusterId">): boolean {
  return name.startsWith(prefixOf(owner));
}

/** Whether a name was given by the meshca of another cluster. */
export function isOtherCluster(name: string, owner: Pick<ResourceOwner, "clusterId">): boolean {
  return name.startsWith(PREFIX) && !isOurName(name, owner);
}

/** After the cluster: purpose, the datacenter unless there was one only, and random octets. */
const NAME = /^(?:root|int)-(?:([a-z0-9_-]+)-)?[0-9a-f]{12}$/;

/**
 * The datacenter in a name of this cluster.
 * @returns null without one; undefined for a name of another form.
 */
function datacenterOf(name: string, owner: ResourceOwner): string | null | undefined {
  if (!isOurName(name, owner)) return undefined;
  const match = NAME.exec(name.slice(prefixOf(owner).length));
  return match === null ? undefined : (match[1] ?? null);
}

/** The datacenter that gave a name, if it is another one of this cluster; else null. */
export function otherDatacenterOf(name: string, owner: ResourceOwner): string | null {
  const datacenter = datacenterOf(name, owner) ?? null;
  return datacenter === owner.datacenter ? null : datacenter;
}

/** The description of a mount of this datacenter. */
export function descriptionOf({ clusterId, datacenter }: ResourceOwner, purpose: Purpose): string {
  return `meshca ${clusterId} ${datacenter === null ? "" : `${datacenter} `}${purpose}`;
}

/** Those by which a mount may be deleted, if it has the accessor that was recorded. */
export function ownDescriptions(owner: ResourceOwner, purpose: Purpose): readonly string[] {
  return [descriptionOf(owner, purpose), descriptionOf({ ...owner, datacenter: null }, purpose)];
}

/**
 * The default issuer, if neither the meshca of this cluster made it nor it is the one in use. A root
 * of another datacenter is not followed: it is the primary's own, before or after a promotion.
 */
export function foreignDefault(
  issuers: readonly IssuerListing[],
  usedId: string | null,
  owner: Pick<ResourceOwner, "clusterId">,
): IssuerListing | null {
  const current = issuers.find(({ isDefault }) => isDefault);
  const isForeign =
    current !== undefined && current.id !== usedId && !isOurName(current.name, owner);
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

/** Who uses a mount. */
export interface MountUse {
  readonly owner: ResourceOwner;
  readonly datacenter: "primary" | "secondary";
  /**
   * Whether an issuer in the mount is in use already, by the state of this datacenter. Another one
   * may have made it, if that was the primary before.
   */
  readonly recorded: boolean;
}

/**
 * Looks which engine is mounted at a path.
 * @throws {ConfigError} if it is not PKI, or another cluster's or datacenter's @throws {VaultError}
 */
export async function findMount(
  api: PkiApi,
  mount: Mount,
  purpose: Purpose,
  use: MountUse,
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
  const fault =
    type === "pki"
      ? ownerFault(description, purpose, use)
      : `is of type ${type}, not pki; choose another path`;
  if (fault !== null)
    throw new ConfigError(`error configuring provider: ${placeOf(mount, purpose)} ${fault}`);
  const isOurs = ownDescriptions(use.owner, purpose).includes(description);
  return { kind: "pki", accessor, maxLeaseTtlMs, isOurs };
}

/** What a mount is called in a text. */
export function placeOf({ path }: Mount, purpose: Purpose): string {
  const field = purpose === "root" ? "RootPKIPath" : "IntermediatePKIPath";
  return `${field}: the mount ${JSON.stringify(path)}`;
}

/** Purpose, and before it the cluster and the datacenter, unless there was one only. */
const DESCRIPTION = /^meshca (\S+) (?:(\S+) )?(root|intermediate)$/;

/** Why a mount with a description cannot be used, as the predicate of a sentence; or null. */
function ownerFault(description: string, purpose: Purpose, use: MountUse): string | null {
  const { owner } = use;
  if (!description.startsWith("meshca ")) return null;
  const [, clusterId, datacenter = null, madeFor] = DESCRIPTION.exec(description) ?? [];
  if (clusterId !== owner.clusterId)
    return "belongs to the meshca of another cluster; choose another path";
  if (datacenter !== null && datacenter !== owner.datacenter && !use.recorded)
    return belongsTo(datacenter);
  // The primary was the only datacenter when marks had no names.
  const isUnmarked = datacenter === null && owner.datacenter !== null;
  if (isUnmarked && use.datacenter === "secondary" && !use.recorded) return belongsTo(null);
  if (madeFor !== purpose)
    return `was made by meshca for another purpose (${JSON.stringify(description)}); choose another path`;
  return null;
}

/**
 * Why no issuer of this datacenter can be made next to those in a mount, as the predicate of a
 * sentence; or null. They would share a role, and with it what it allows.
 */
export function issuersFault(issuers: readonly IssuerListing[], use: MountUse): string | null {
  const { owner } = use;
  if (issuers.some(({ name }) => isOtherCluster(name, owner)))
    return "has issuers of the meshca of another cluster; choose another path";
  if (use.recorded) return null;
  const [other] = issuers.flatMap(({ name }) => otherDatacenterOf(name, owner) ?? []);
  if (other !== undefined) return belongsTo(other);
  const isUnmarked = issuers.some(
    ({ name }) => owner.datacenter !== null && datacenterOf(name, owner) === null,
  );
  return isUnmarked && use.datacenter === "secondary" ? belongsTo(null) : null;
}

/**
 * Whose a mount or an issuer is, as the predicate of a sentence, and what to do.
 * @param datacenter null: it was made when there was one only.
 */
export function belongsTo(datacenter: string | null): string {
  const whose =
    datacenter === null
      ? "the primary datacenter, which used it before there were others"
      : `datacenter ${datacenter} of this cluster`;
  return `belongs to ${whose}; choose another path: each datacenter needs mounts of its own`;
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
 * @param descriptions one of which it has.
 * @param accessor null: whichever it has.
 * @param before runs before the deletion; it may throw.
 * @throws {VaultError}
 */
export async function deleteMount(
  api: PkiApi,
  mount: Mount,
  descriptions: readonly string[],
  accessor: string | null,
  before: () => void = () => undefined,
): Promise<void> {
  const info = await api.readMount(mount);
  if (info === null || !descriptions.includes(info.description)) return;
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
