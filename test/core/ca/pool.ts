/**
 * A small pool of real roots, each with a leaf of its own, that certify each other on demand:
 * material for the pure functions of the CA.
 * @module
 */
import { hex } from "../../../src/core/bytes.ts";
import {
  candidatePool,
  findCrossSigned,
  neededLongestFirst,
  rootsToReach,
} from "../../../src/core/ca/cross-chain.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import {
  bootstrap,
  type NewConfig,
  type NewRoot,
  rotate,
} from "../../../src/core/ca/transitions.ts";
import { formatSpiffeId } from "../../../src/core/spiffe/id.ts";
import { defaultTrustDomain } from "../../../src/core/spiffe/trust-domain.ts";
import { activeRoot, type CaState, type RootEntry } from "../../../src/core/state.ts";
import {
  type Authority,
  createRoot,
  crossSign,
  generateCaKey,
} from "../../../src/core/x509/authority.ts";
import { type Certificate, readCertificate } from "../../../src/core/x509/certificate.ts";
import { caScheme, sign } from "../../../src/core/x509/keys.ts";
import { createSerials, LeafTemplate, leafKeyUsage } from "../../../src/core/x509/leaf.ts";
import { systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";
import { CLUSTER, HOUR } from "./harness.ts";

export const START = new Date("2026-06-01T12:00:00Z");
export const at = (hours: number): Date => new Date(START.getTime() + hours * HOUR);
export const CONFIG: NewConfig = {
  provider: "consul",
  config: null,
  forceWithoutCrossSigning: false,
};

export interface PoolRoot {
  readonly certificate: Certificate;
  readonly privateKey: CryptoKey;
  /** A leaf that this root signed, in force as long as the root is. */
  readonly leaf: Certificate;
}

/** One root that lives for `hours` from START on. */
export async function makeRoot(hours: number): Promise<PoolRoot> {
  const { privateKey, info } = await generateCaKey({ type: "ec", bits: 256 });
  const options = {
    now: START,
    random: systemRandom,
    ...clusterOf(CLUSTER),
    provider: "consul",
    ttlMs: hours * HOUR,
  };
  const certificate = await createRoot({ privateKey, info }, options);
  return {
    certificate,
    privateKey,
    leaf: await makeLeaf({ certificate, privateKey }, certificate.notBefore, certificate.notAfter),
  };
}

/** A leaf that an authority signs. */
export async function makeLeaf(
  { certificate, privateKey }: Authority,
  notBefore: Date,
  notAfter: Date,
): Promise<Certificate> {
  const { key } = certificate;
  const template = new LeafTemplate(certificate, caScheme(key, "SHA-256"));
  const draft = template.encode({
    uri: formatSpiffeId({
      kind: "server",
      trustDomain: defaultTrustDomain(CLUSTER),
      datacenter: "dc1",
    }),
    dnsNames: [],
    ipAddresses: [],
    serial: createSerials(systemRandom)(),
    notBefore,
    notAfter,
    spki: key.spki,
    keyUsage: leafKeyUsage(key.type),
  });
  return readCertificate(draft.complete(await sign(privateKey, template.scheme, draft.signed)));
}

const crossings = new Map<string, Promise<Certificate>>();

/** `root` certified by `by`, made once for each instant. */
export function crossed(
  root: PoolRoot,
  by: PoolRoot,
  now: Date = START,
  until: Date = by.certificate.notAfter,
): Promise<Certificate> {
  const key = `${root.certificate.id} ${by.certificate.id} ${now.getTime()} ${until.getTime()}`;
  const made =
    crossings.get(key) ??
    crossSign(
      root.certificate,
      { certificate: by.certificate, privateKey: by.privateKey },
      { now, random: systemRandom, until },
    );
  crossings.set(key, made);
  return made;
}

export const commitId = (): string => hex(systemRandom.bytes(16));

/** A root as a provider hands it over; the state names whose key it is. */
export function newRoot({ certificate }: PoolRoot): NewRoot {
  return {
    name: "Root",
    certificate,
    issuerKeyId: certificate.subjectKeyId ?? new Uint8Array(),
    state: { key: `key of ${certificate.id}` },
  };
}

export function firstState(root: PoolRoot, leafTtlMs: number, now: Date = START): CaState {
  return bootstrap(clusterOf(CLUSTER), commitId(), {
    config: CONFIG,
    root: newRoot(root),
    leafTtlMs,
    now,
  });
}

export interface Turn {
  readonly to: PoolRoot;
  readonly now: Date;
  readonly leafTtlMs: number;
  /** Without any new cross-signed certificate: roots that cannot be reached are abandoned. */
  readonly force?: boolean;
}

/**
 * Rotates, each root of the cross-chain certified by the next; under `force` by existing
 * certificates only.
 */
export async function rotated(
  state: CaState,
  pool: readonly PoolRoot[],
  { to, now, leafTtlMs, force = false }: Turn,
): Promise<CaState> {
  const old = activeRoot(state);
  const pretend = state.roots.map(
    (root): RootEntry => (root === old ? { ...root, status: "retired", rotatedOutAt: now } : root),
  );
  const targets = rootsToReach(pretend, now).filter(({ id }) => id !== to.certificate.id);
  const certificates = candidatePool(state.roots);
  const chain: Certificate[] = [];
  const abandonedRoots: string[] = [];
  let tip = to;
  for (const target of neededLongestFirst(targets, old.intermediates, DEFAULT_POLICY)) {
    const by = pool.find(({ certificate }) => certificate.id === target.id);
    if (by === undefined) throw new TypeError("The target is not of the pool");
    const known = findCrossSigned(certificates, tip.certificate, target, to.certificate, {
      now,
      policy: DEFAULT_POLICY,
    });
    if (known === undefined && force) {
      abandonedRoots.push(target.id);
      continue;
    }
    if (
      known === undefined &&
      target.id !== old.id &&
      state.provider.retired[target.id] === undefined
    )
      throw new TypeError("The target's key is gone");
    chain.push(known ?? (await crossed(tip, by, now)));
    tip = by;
  }
  return rotate(state, commitId(), {
    config: CONFIG,
    root: newRoot(to),
    chain,
    abandonedRoots,
    leafTtlMs,
    now,
  });
}
