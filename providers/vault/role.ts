/**
 * The role by which Vault signs leaves. The request decides nothing but the key: names come with the
 * call, usages and lifetime from the role.
 * @module
 */
import type { ClusterIdentity } from "../../src/core/spiffe/trust-domain.ts";
import type { Mount } from "./config.ts";
import { quote } from "./errors.ts";
import { VAULT_LEAF_LIMITS } from "./limits.ts";
import type { Fields, PkiApi } from "./pki-api.ts";

/** Consul's name for it (agent/connect/ca/provider_vault.go). */
export const LEAF_ROLE = "leaf-cert";

/** A leaf has no subject, with which its subject alternative names would not be critical. */
const NO_SUBJECT: Fields = Object.fromEntries(
  ["ou", "organization", "country", "locality", "province", "street_address", "postal_code"].map(
    (name) => [name, []],
  ),
);

/** The fields that the provider requires; others may be set by an operator. */
export function roleFields(
  { trustDomain }: Pick<ClusterIdentity, "trustDomain">,
  leafTtlMs: number,
): Fields {
  return {
    allow_any_name: true,
    allow_ip_sans: true,
    allow_localhost: true,
    allow_wildcard_certificates: true,
    allowed_uri_sans: [`spiffe://${trustDomain}/*`],
    enforce_hostnames: false,
    require_cn: false,
    ...NO_SUBJECT,
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
    not_after: "",
    not_before_duration: VAULT_LEAF_LIMITS.backdateMs / 1000,
    // Half a million stored leaves a day brought a Vault down (hashicorp/consul#4475).
    no_store: true,
    generate_lease: false,
  };
}

/**
 * Writes the role if a field differs.
 * @param onRollback takes the action that restores the role. @throws {VaultError}
 */
export async function ensureRole(
  api: PkiApi,
  mount: Mount,
  fields: Fields,
  onRollback: (compensation: (later: PkiApi) => Promise<void>) => void,
): Promise<void> {
  const before = await api.readRole(mount, LEAF_ROLE);
  const isSame =
    before !== null &&
    Object.entries(fields).every(([name, value]) => isSameValue(before[name], value));
  if (isSame) return;
  onRollback((later) =>
    before === null
      ? later.deleteRole(mount, LEAF_ROLE)
      : later.writeRole(mount, LEAF_ROLE, before),
  );
  await api.writeRole(mount, LEAF_ROLE, fields);
}

/**
 * How a role differs from what the provider requires, for an operator: by whom it was changed is
 * unknown. @returns the rest of a sentence; null if it does not, or if it cannot be read.
 */
export async function roleDifference(
  api: PkiApi,
  mount: Mount,
  fields: Fields,
): Promise<string | null> {
  const found = await api.readRole(mount, LEAF_ROLE).catch(() => null);
  if (found === null) return null;
  const differing = Object.entries(fields).filter(
    ([name, value]) => name in found && !isSameValue(found[name], value),
  );
  if (differing.length === 0) return null;
  const list = differing.map(
    ([name, value]) =>
      `${name} is ${quote(JSON.stringify(found[name]))} and must be ${JSON.stringify(value)}`,
  );
  return `the role ${LEAF_ROLE} was changed: ${list.join(", ")}; delete it (vault delete ${mount.path}/roles/${LEAF_ROLE}), and the next leaf writes it again`;
}

/** A server omits fields that it does not know, and writes an empty list as null or as a list. */
function isSameValue(found: unknown, wanted: unknown): boolean {
  const plain = (value: unknown) =>
    JSON.stringify(Array.isArray(value) && value.length === 0 ? null : (value ?? null));
  return plain(found) === plain(wanted);
}
