/**
 * What in Vault is ours: by what we name it after, and by the accessor that it had when we made it.
 * Only what was made by us and is still recognised is ever deleted (vault.md §2.11).
 * @module
 */
import { hex } from "../../src/core/bytes.ts";
import { ConfigError } from "../../src/core/errors.ts";
import type { Random } from "../../src/core/ports/clock.ts";
import type { Mount, MountInfo, VaultClient } from "./client.ts";
import { VaultError } from "./errors.ts";
import { needOfMount, preflight } from "./preflight.ts";
import { type Facts, isSameServer, type Litter, sameMount } from "./vault-state.ts";

const PREFIX = "meshca-";

/** A name for a key or an issuer, by which it is recognised as this cluster's. */
export function newName(clusterId: string, kind: "root" | "int", random: Random): string {
  return `${PREFIX}${clusterId.slice(0, 8).toLowerCase()}-${kind}-${hex(random.bytes(6))}`;
}

export function isOurName(name: string, clusterId: string): boolean {
  return name.startsWith(`${PREFIX}${clusterId.slice(0, 8).toLowerCase()}-`);
}

type Purpose = "root" | "intermediate";

/** What a mount of ours is described as. */
export function descriptionOf(clusterId: string, what: Purpose): string {
  return `meshca ${clusterId} ${what}`;
}

function isOurMount(info: MountInfo, clusterId: string, what: Purpose): boolean {
  return info.description === descriptionOf(clusterId, what);
}

/** What is mounted at a path. `unknown`: something that the token may not read. */
export type Found =
  | { readonly kind: "none" }
  | { readonly kind: "unknown" }
  | { readonly kind: "pki"; readonly info: MountInfo; readonly isOurs: boolean };

/**
 * Looks what is mounted at a path.
 * @throws {ConfigError} where it is of another type, or another meshca's @throws {VaultError}
 */
export async function findMount(
  client: VaultClient,
  mount: Mount,
  field: "RootPKIPath" | "IntermediatePKIPath",
  clusterId: string,
): Promise<Found> {
  let info: MountInfo | null;
  try {
    info = await client.readMount(mount);
  } catch (error) {
    if (!(error instanceof VaultError) || error.reason !== "denied") throw error;
    return findByCa(client, mount);
  }
  if (info === null) return { kind: "none" };
  if (info.type !== "pki")
    throw new ConfigError(
      `error configuring provider: ${field}: what is mounted at ${JSON.stringify(mount.path)} is ${info.type}, not pki`,
    );
  const what = field === "RootPKIPath" ? "root" : "intermediate";
  const isOurs = isOurMount(info, clusterId, what);
  if (info.description.startsWith(`meshca ${clusterId} `) && !isOurs)
    throw new ConfigError(
      `error configuring provider: ${field}: the mount ${JSON.stringify(mount.path)} was made by meshca for another purpose: ${JSON.stringify(info.description)}`,
    );
  if (info.description.startsWith("meshca ") && !isOurs)
    throw new ConfigError(
      `error configuring provider: ${field}: the mount ${JSON.stringify(mount.path)} belongs to another cluster's meshca`,
    );
  return { kind: "pki", info, isOurs };
}

/**
 * @throws {ConfigError} where the limit of the intermediate's mount would cut leaves short; one
 * that has none of its own has the server's.
 */
export function requireRoomFor(leafTtlMs: number, { path }: Mount, found: Found): void {
  if (
    found.kind !== "pki" ||
    found.info.maxLeaseTtlMs === 0 ||
    found.info.maxLeaseTtlMs >= leafTtlMs
  )
    return;
  const [wanted, most] = [leafTtlMs, found.info.maxLeaseTtlMs].map(
    (ms) => `${Math.ceil(ms / 1000)}s`,
  );
  throw new ConfigError(
    `error configuring provider: LeafCertTTL: ${wanted} is beyond max_lease_ttl of the mount ${JSON.stringify(path)}, which is ${most}; raise it (vault secrets tune -max-lease-ttl=${wanted} ${path}) or configure less`,
  );
}

/**
 * Anybody may read the CA of a mount that there is; of one that there is not, without a rule for
 * it, the answer is 403.
 */
async function findByCa(client: VaultClient, mount: Mount): Promise<Found> {
  try {
    await client.readCa(mount);
    return { kind: "unknown" };
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    if (error.reason === "mount_missing") return { kind: "none" };
    if (error.reason === "denied")
      await preflight(client, [needOfMount(mount, "", ["read"], "see whether it is mounted")]);
    throw error;
  }
}

/**
 * Deletes a mount of ours. One that is no longer what we made stays.
 * @param accessor null: whichever it has.
 * @param before may throw.
 * @throws {VaultError}
 */
export async function deleteMount(
  client: VaultClient,
  mount: Mount,
  {
    clusterId,
    what,
    accessor,
    before,
  }: {
    readonly clusterId: string;
    readonly what: Purpose;
    readonly accessor: string | null;
    readonly before?: () => void;
  },
): Promise<void> {
  const info = await client.readMount(mount);
  if (
    info === null ||
    !isOurMount(info, clusterId, what) ||
    (accessor !== null && info.accessor !== accessor)
  )
    return;
  before?.();
  await client.disableMount(mount);
}

/** Deletes an issuer and its key. @throws {VaultError} */
export async function deleteIssuer(
  client: VaultClient,
  mount: Mount,
  issuerId: string,
  keyId: string,
): Promise<void> {
  try {
    await client.deleteIssuer(mount, issuerId);
    if (keyId !== "") await client.deleteKey(mount, keyId);
  } catch (error) {
    // With the mount all of it is gone.
    if (!(error instanceof VaultError) || error.reason !== "mount_missing") throw error;
  }
}

/**
 * Deletes what may be deleted by now.
 * @param inUse what other records use: a mount that one of them has stays for it to delete.
 * @param beforeEach called before each deletion; it may throw.
 * @returns what is left. @throws {VaultError}
 */
export async function sweep(
  client: VaultClient,
  facts: Facts,
  inUse: readonly Facts[],
  {
    clusterId,
    now,
    beforeEach,
  }: { readonly clusterId: string; readonly now: Date; readonly beforeEach: () => void },
): Promise<Litter[]> {
  const left: Litter[] = [];
  const all = [facts, ...inUse];
  for (const litter of facts.litter) {
    const signers = all.filter((other) => signsIn(other, litter, facts));
    const isUsed =
      signers.length > 0 ||
      all.some(
        ({ root, ...at }) =>
          root !== null && isSameServer(at, facts) && sameMount(root.mount, litter.mount),
      );
    if (litter.after > now) {
      left.push(litter);
      continue;
    }
    beforeEach();
    if (!isUsed && litter.accessor !== null)
      await deleteMount(client, litter.mount, {
        clusterId,
        what: "intermediate",
        accessor: litter.accessor,
        before: beforeEach,
      });
    else if (!all.some(({ intermediate }) => intermediate.issuerId === litter.issuerId)) {
      await keepDefault(client, litter, signers[0]?.intermediate.issuerId ?? null);
      beforeEach();
      await deleteIssuer(client, litter.mount, litter.issuerId, litter.keyId);
    }
  }
  return left;
}

/** Whether what signs leaves for a record is in the mount of something that is to be deleted. */
function signsIn({ intermediate, ...at }: Facts, litter: Litter, of: Facts): boolean {
  if (intermediate.issuerId === null) return false;
  const isThatMount = intermediate.accessor !== null && intermediate.accessor === litter.accessor;
  return isThatMount || (isSameServer(at, of) && sameMount(intermediate.mount, litter.mount));
}

/** A mount whose default issuer is deleted has none: the one that took its place becomes it. */
async function keepDefault(
  client: VaultClient,
  { mount, issuerId }: Litter,
  current: string | null,
): Promise<void> {
  if (current === null) return;
  const issuers = await client.listIssuers(mount).catch(() => []);
  if (issuers.some(({ id, isDefault }) => isDefault && id === issuerId))
    await client.setDefaultIssuer(mount, current);
}
