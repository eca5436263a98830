/**
 * What the provider keeps in the CA's state: which issuers in Vault are ours to use, what we made
 * there, and what is to be deleted later. Secrets of the configuration and the key of an
 * intermediate that we hold are sealed beside it.
 * @module
 */
import * as v from "valibot";
import { base64, fromBase64 } from "../../src/core/bytes.ts";
import { FormatError, ProviderError } from "../../src/core/errors.ts";
import type { ProviderState } from "../../src/core/state.ts";
import { type Certificate, readCertificate } from "../../src/core/x509/certificate.ts";
import type { Mount } from "./client.ts";

const mount = v.object({ path: v.string(), namespace: v.string() });

const certificate = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }): Certificate => {
    try {
      const der = fromBase64(dataset.value);
      if (der !== null) return readCertificate(der);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
    }
    addIssue({ message: "is not a certificate" });
    return NEVER;
  }),
);

const instant = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => new Date(text)),
);

/** Names this very mount. Null where the token may not read it. */
const accessor = v.nullable(v.string());

const Litter = v.object({
  mount,
  /** The mount goes with its issuer where nothing else is in use there; null: it is not ours. */
  accessor,
  issuerId: v.string(),
  keyId: v.string(),
  after: instant,
});

const Facts = v.object({
  address: v.string(),
  /**
   * Vault's own id of its cluster, which one address or another leads to; null: it does not say.
   */
  cluster: v.nullable(v.string()),
  /** Null in a secondary datacenter: the primary has it. */
  root: v.nullable(
    v.object({
      mount,
      /** The issuer in Vault that certifies for us, whatever the mount's default is. */
      issuerId: v.string(),
      /** Whether we generated it. */
      isOurs: v.boolean(),
    }),
  ),
  /** From what certified the intermediate up to below the root; empty where that is the root. */
  path: v.array(certificate),
  intermediate: v.object({
    mount,
    accessor,
    /** Whether we mounted it. */
    isOurs: v.boolean(),
    certificate,
    /** Null where we hold the key. */
    issuerId: v.nullable(v.string()),
    keyId: v.nullable(v.string()),
  }),
  litter: v.array(Litter),
});

export type Facts = v.InferOutput<typeof Facts>;
/** Which Vault it is. */
export type Server = Pick<Facts, "address" | "cluster">;
export type RootFacts = NonNullable<Facts["root"]>;
export type IntermediateFacts = Facts["intermediate"];
/** Something in Vault that is to be deleted, not before `after`. */
export type Litter = v.InferOutput<typeof Litter>;

/** @throws {ProviderError} `provider_contract` */
export function readFacts(state: ProviderState): Facts {
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), Facts), state.facts);
  if (!read.success)
    throw new ProviderError(
      "provider_contract",
      "Vault: what was kept of it in the CA's state cannot be read",
    );
  return read.output;
}

export function writeFacts(facts: Facts): string {
  return JSON.stringify({
    ...facts,
    path: facts.path.map(({ der }) => base64(der)),
    intermediate: {
      ...facts.intermediate,
      certificate: base64(facts.intermediate.certificate.der),
    },
  });
}

/** @throws {ProviderError} `provider_rejected` in a secondary datacenter */
export function requireRoot({ root }: Facts): RootFacts {
  if (root === null)
    throw new ProviderError(
      "provider_rejected",
      "the root is the primary datacenter's: it cannot certify anything here",
    );
  return root;
}

/** Whether two are one Vault, by whatever names it goes. */
export function isSameServer(a: Server, b: Server): boolean {
  return a.address === b.address || (a.cluster !== null && a.cluster === b.cluster);
}

export function sameMount(a: Mount, b: Mount): boolean {
  return a.path === b.path && a.namespace === b.namespace;
}

/** What a set of facts leaves in Vault once nothing of it is in use. */
export function litterOf({ intermediate, litter }: Facts, after: Date): Litter[] {
  const { mount, accessor, isOurs, issuerId, keyId } = intermediate;
  if (issuerId === null) return litter;
  return [
    ...litter,
    { mount, accessor: isOurs ? accessor : null, issuerId, keyId: keyId ?? "", after },
  ];
}
