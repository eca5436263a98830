/**
 * The role by which Vault signs leaves. It leaves a request no say: names come with the call, usage
 * and life from the role.
 * @module
 */
import { trustDomainOf } from "../../src/core/spiffe/id.ts";
import type { Fields, Mount, VaultClient } from "./client.ts";

/** Consul's name for it (vault.md §2.7). */
export const LEAF_ROLE = "leaf-cert";

/** The fields that must be as they are; whatever else a role has, an operator may set. */
export function roleFields(clusterId: string, leafTtlMs: number): Fields {
  return {
    allow_any_name: true,
    allow_ip_sans: true,
    allow_localhost: true,
    allowed_uri_sans: [`spiffe://${trustDomainOf(clusterId)}/*`],
    enforce_hostnames: false,
    require_cn: false,
    use_csr_common_name: false,
    use_csr_sans: false,
    key_type: "any",
    key_bits: 0,
    key_usage: ["DigitalSignature"],
    server_flag: true,
    client_flag: true,
    code_signing_flag: false,
    email_protection_flag: false,
    ext_key_usage: [],
    basic_constraints_valid_for_non_ca: true,
    max_ttl: Math.ceil(leafTtlMs / 1000),
    // Half a million stored leaves a day brought a Vault down (consul#4475).
    no_store: true,
    generate_lease: false,
  };
}

/**
 * Makes the role what it must be; one that is so already is not written.
 * @param onAbandon takes how to make it what it was. @throws {VaultError}
 */
export async function ensureRole(
  client: VaultClient,
  mount: Mount,
  fields: Fields,
  onAbandon: (undo: (client: VaultClient) => Promise<void>) => void,
): Promise<void> {
  const before = await client.readRole(mount, LEAF_ROLE);
  if (
    before !== null &&
    Object.entries(fields).every(([name, value]) => isSame(before[name], value))
  )
    return;
  onAbandon((later) =>
    before === null
      ? later.deleteRole(mount, LEAF_ROLE)
      : later.writeRole(mount, LEAF_ROLE, before),
  );
  await client.writeRole(mount, LEAF_ROLE, fields);
}

/** A server leaves out what it does not know, and writes an empty list as null or as one. */
function isSame(found: unknown, wanted: unknown): boolean {
  const plain = (value: unknown) =>
    JSON.stringify(Array.isArray(value) && value.length === 0 ? null : (value ?? null));
  return plain(found) === plain(wanted);
}
