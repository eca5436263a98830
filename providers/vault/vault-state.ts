/**
 * The provider's part of the CA's state: which issuers in Vault are ours to use, what we created
 * there, and what is to be deleted later. Secrets of the configuration and the key of a local
 * intermediate are sealed next to it.
 * @module
 */
import * as v from "valibot";
import { base64 } from "../../src/core/bytes.ts";
import { ProviderError } from "../../src/core/errors.ts";
import type { ProviderState } from "../../src/core/state.ts";
import { certificate, instant } from "../../src/schemas.ts";
import type { Mount } from "./config.ts";

const mount = v.object({ path: v.string(), namespace: v.string() });

/** Identifies one mount, also after another one has taken its path. */
const accessor = v.nullable(v.string());

const SupersededIssuer = v.object({
  mount,
  /** Of a mount of ours, which is deleted with its last issuer; null: the mount stays. */
  accessor,
  issuerId: v.string(),
  keyId: v.string(),
  /** When it may be deleted. */
  after: instant,
  /** Whether it is a root, which may be the key of another datacenter; absent: no. */
  isRoot: v.optional(v.boolean()),
});

const Stored = v.object({
  address: v.string(),
  /** The id of Vault's cluster, the same by whatever address it is reached; null if unknown. */
  cluster: v.nullable(v.string()),
  /** Null in a secondary datacenter: the primary has it. */
  root: v.nullable(
    v.object({
      mount,
      /** The issuer that certifies for us, whatever the default of the mount is. */
      issuerId: v.string(),
      /** Whether we generated it. */
      isOurs: v.boolean(),
    }),
  ),
  /** From the issuer of the intermediate up to below the root; empty if that is the root. */
  path: v.array(certificate),
  intermediate: v.object({
    mount,
    /** Null if the token is not allowed to read it. */
    accessor,
    /** Whether we mounted it. */
    isOurs: v.boolean(),
    certificate,
    /** Null if we hold the key. */
    issuerId: v.nullable(v.string()),
    keyId: v.nullable(v.string()),
    /** Whether another datacenter made it, which deletes it; absent: no. */
    isLent: v.optional(v.boolean()),
  }),
  litter: v.array(SupersededIssuer),
});

type Stored = v.InferOutput<typeof Stored>;
export type SupersededIssuer = v.InferOutput<typeof SupersededIssuer>;
export type VaultState = Omit<Stored, "litter"> & {
  readonly superseded: readonly SupersededIssuer[];
};
/** Identifies a Vault. */
export type Server = Pick<VaultState, "address" | "cluster">;
export type RootState = NonNullable<VaultState["root"]>;
export type IntermediateState = VaultState["intermediate"];

/** @throws {ProviderError} `provider_contract` */
export function readState({ facts }: ProviderState): VaultState {
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), Stored), facts);
  if (!read.success)
    throw new ProviderError(
      "provider_contract",
      "Vault: the provider's part of the CA's state cannot be read; restore the state from a backup",
    );
  const { litter: superseded, ...state } = read.output;
  return { ...state, superseded };
}

/** @returns the `facts` of a `ProviderState`. */
export function writeState({ superseded: litter, ...state }: VaultState): string {
  const path = state.path.map(({ der }) => base64(der));
  const intermediate = {
    ...state.intermediate,
    certificate: base64(state.intermediate.certificate.der),
  };
  return JSON.stringify({ ...state, path, intermediate, litter });
}

/** @throws {ProviderError} `provider_rejected` in a secondary datacenter */
export function requireRoot({ root }: VaultState): RootState {
  if (root === null)
    throw new ProviderError(
      "provider_rejected",
      "Vault: the root belongs to the primary datacenter, so nothing can be certified here; use the primary",
    );
  return root;
}

/** Whether both are one Vault, by whatever addresses. */
export function isSameServer(a: Server, b: Server): boolean {
  return a.address === b.address || (a.cluster !== null && a.cluster === b.cluster);
}

export function sameMount(a: Mount, b: Mount): boolean {
  return a.path === b.path && a.namespace === b.namespace;
}

/** Whether a state uses an issuer in the mount of intermediates. */
export function signsInMount({ intermediate }: VaultState, mount: Mount): boolean {
  return intermediate.issuerId !== null && sameMount(intermediate.mount, mount);
}

/** What a state leaves in Vault once another one replaces it. */
export function supersededBy(
  { intermediate, superseded }: VaultState,
  after: Date,
): readonly SupersededIssuer[] {
  const { mount, accessor, isOurs, issuerId, keyId, isLent } = intermediate;
  if (issuerId === null || isLent === true) return superseded;
  const issuer = { mount, accessor: isOurs ? accessor : null, issuerId, keyId: keyId ?? "", after };
  return [...superseded, issuer];
}

/**
 * What another datacenter takes over of a state with the primary role: the root, and the issuer until
 * it has one of its own. What is in Vault stays the former datacenter's to delete.
 */
export function lent(state: VaultState): VaultState {
  const intermediate = { ...state.intermediate, accessor: null, isOurs: false, isLent: true };
  return { ...state, intermediate, superseded: [] };
}
