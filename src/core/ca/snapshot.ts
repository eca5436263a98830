/**
 * A state that is ready to serve: its provider opened, its leaf template proved, its chain in PEM.
 * A snapshot never changes; a leaf is signed under the one that is current when its fields are
 * decided.
 * @module
 */

import { InvariantError, ProviderError } from "../errors.ts";
import type { Random } from "../ports/clock.ts";
import type {
  CommonConfig,
  Provider,
  ProviderContext,
  ProviderType,
  ProviderTypes,
} from "../ports/provider.ts";
import { formatSpiffeId } from "../spiffe/id.ts";
import { activeRoot, type CaState, type RootEntry, type Schema } from "../state.ts";
import { generateCaKey } from "../x509/authority.ts";
import { type Certificate, inForce, pemOf, readCertificate } from "../x509/certificate.ts";
import { findPath } from "../x509/chain.ts";
import { hasNameConstraints, pathConstraintFaults } from "../x509/constraint-faults.ts";
import { caScheme, type PublicKeyInfo, sign } from "../x509/keys.ts";
import {
  createSerials,
  LEAF_BACKDATE_MS,
  type LeafFields,
  type LeafLife,
  LeafTemplate,
  leafKeyUsage,
  leafValidity,
  NO_SERVER_NAMES,
} from "../x509/leaf.ts";
import { lint } from "../x509/lint.ts";
import { makeRequest } from "../x509/request.ts";
import { crossChainOf } from "./cross-chain.ts";

export interface Snapshot {
  readonly state: CaState;
  readonly active: RootEntry;
  readonly config: CommonConfig;
  /** Null if it could not be opened: then the roots are served and no leaf is signed. */
  readonly provider: Provider | null;
  /** Why the provider could not be opened; null otherwise. */
  readonly fault: unknown;
  /** The certificates sent with a leaf, in PEM; self-signed ones are not among them. */
  readonly chainPem: string;
  /** When the first of the cross-signed certificates among them expires; null if there is none. */
  readonly chainEndsAt: Date | null;
  /**
   * The certificates with name constraints through which a client may verify a leaf: of the issuers,
   * the chain, and the published roots.
   */
  readonly constrained: readonly Certificate[];
}

/**
 * The type of a provider by its wire name.
 * @throws {ProviderError} if this replica does not have that type
 */
export function typeOf(types: ProviderTypes, name: string): ProviderType {
  const type = types.get(name);
  if (type === undefined)
    throw new ProviderError(
      "provider_unavailable",
      `Cannot serve: the stored CA uses the provider ${JSON.stringify(name)}, and this replica has only ${[...types.keys()].join()}; serve it on a runtime that has the provider, or change the provider there`,
    );
  return type;
}

/** The stored configuration of a state. @throws {ConfigError} with every fault */
export function parseOf(
  type: ProviderType,
  { config, primary }: Pick<CaState, "config" | "primary">,
): CommonConfig {
  return type.parse(config.config, primary === null ? "primary" : "secondary");
}

/**
 * Opens the provider of a state. A provider that cannot be opened is a fault of the snapshot, not
 * an error.
 */
export async function loadSnapshot(
  state: CaState,
  types: ProviderTypes,
  context: Pick<ProviderContext, "sealer" | "random">,
  now: Date,
): Promise<Snapshot> {
  const type = typeOf(types, state.config.provider);
  const active = activeRoot(state);
  const config = parseOf(type, state);
  const base = snapshotOf(state, config, null);
  try {
    const provider = await type.open(config, state.provider.active, active.certificate, {
      ...context,
      clusterId: state.clusterId,
      trustDomain: state.trustDomain,
      datacenter: state.datacenter,
    });
    if (inForce(provider.issuer, now))
      await proveTemplate(provider.issuer, active.certificate, {
        trustDomain: state.trustDomain,
        random: context.random,
        now,
      });
    return { ...base, provider };
  } catch (fault) {
    return { ...base, fault };
  }
}

/** Assembles a snapshot from parts that are ready. */
export function snapshotOf(
  state: CaState,
  config: CommonConfig,
  provider: Provider | null,
): Snapshot {
  const active = activeRoot(state);
  const ends = crossChainOf(active).map(({ notAfter }) => notAfter.getTime());
  return {
    state,
    active,
    config,
    provider,
    fault: null,
    chainPem: active.intermediates.map(pemOf).join(""),
    chainEndsAt: ends.length === 0 ? null : new Date(Math.min(...ends)),
    constrained: [...active.intermediates, ...publishedRoots(state)].filter(hasNameConstraints),
  };
}

function publishedRoots({ roots }: CaState): Certificate[] {
  return roots.filter(({ abandoned }) => !abandoned).map(({ certificate }) => certificate);
}

/** The snapshot of a state that leaves root, issuer and configuration as they are. */
export function withState({ config, provider, fault }: Snapshot, next: CaState): Snapshot {
  return { ...snapshotOf(next, config, provider), fault };
}

/** A snapshot whose state is to be stored in a schema. */
export function withSchema(snapshot: Snapshot, schema: Schema): Snapshot {
  return { ...snapshot, state: { ...snapshot.state, schema } };
}

/** A snapshot whose state no other datacenter takes. */
export function withDatacenter(snapshot: Snapshot, datacenter: string): Snapshot {
  return { ...snapshot, state: { ...snapshot.state, datacenter } };
}

/** Also the shortest LeafCertTTL. */
const PROBE_LIFE: LeafLife = { ttlMs: 3_600_000 - LEAF_BACKDATE_MS, backdateMs: LEAF_BACKDATE_MS };

/** The fields of a leaf that is checked and thrown away. */
function probeFields(
  key: PublicKeyInfo,
  issuer: Certificate,
  root: Certificate,
  context: ProbeContext,
): LeafFields {
  const { trustDomain, random, now } = context;
  return {
    uri: formatSpiffeId({ kind: "server", trustDomain, datacenter: "probe" }),
    dnsNames: [],
    ipAddresses: [],
    ...leafValidity(issuer, root, PROBE_LIFE, now),
    serial: createSerials(random)(),
    spki: key.spki,
    keyUsage: leafKeyUsage(key.type),
  };
}

interface ProbeContext {
  readonly trustDomain: string;
  readonly random: Random;
  readonly now: Date;
}

/**
 * Checks an issuer's leaf template once: a leaf of it goes through lint, both readers and the chain
 * check. A throw-away key stands in for the issuer's, so that the real one never signs an
 * unchecked leaf.
 * @throws {InvariantError}
 */
export async function proveTemplate(
  issuer: Certificate,
  root: Certificate,
  context: ProbeContext,
): Promise<void> {
  const key = await generateCaKey({ type: "ec", bits: 256 });
  const standIn: Certificate = { ...issuer, key: key.info };
  const template = new LeafTemplate(standIn, caScheme(key.info, "SHA-256"));
  const draft = template.encode(probeFields(key.info, issuer, root, context));
  const leaf = readCertificate(
    draft.complete(await sign(key.privateKey, template.scheme, draft.signed)),
  );
  const violations = await lint(leaf, "leaf", issuer);
  if (violations.length > 0)
    throw new InvariantError(`Leaf template of the issuer breaks rules: ${violations.join("; ")}`);
  if ((await findPath(leaf, [], standIn, context.now)) === null)
    throw new InvariantError("Leaf template does not chain to its issuer");
}

/**
 * Proves, before a new root becomes active, that a leaf signed by it verifies under each of the
 * targets, by itself. The leaf has a throw-away key and is thrown away.
 * @returns the reason for each root under which it does not verify, by its ID, as the rest of a
 * sentence; empty if the reason is unknown.
 */
export async function proveCrossing(
  provider: Provider,
  root: Certificate,
  chain: readonly Certificate[],
  targets: readonly Certificate[],
  context: ProbeContext,
): Promise<ReadonlyMap<string, string>> {
  const key = await generateCaKey({ type: "ec", bits: 256 });
  const draft = provider.template.encode(probeFields(key.info, provider.issuer, root, context));
  const leaf = readCertificate(
    (await provider.signLeaf(draft, await makeRequest(key, draft.fields))).der,
  );
  const sent = [...provider.issuerChain, ...chain];
  const failed = new Map<string, string>();
  for (const target of targets) {
    const path = await findPath(leaf, sent, target, context.now);
    const faults = path === null ? [] : pathConstraintFaults(path, NO_SERVER_NAMES);
    if (path === null || faults.length > 0) failed.set(target.id, faults.join("; "));
  }
  return failed;
}
