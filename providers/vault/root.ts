/**
 * The root in Vault: made where there is none, adopted where there is one, followed up to the root
 * above it where the mount holds an intermediate of an external one.
 * @module
 */
import { equal } from "../../src/core/bytes.ts";
import { ConfigError, FormatError, type Violation } from "../../src/core/errors.ts";
import { readPem } from "../../src/core/pem.ts";
import { caCommonName, signingUri } from "../../src/core/x509/authority.ts";
import {
  type Certificate,
  inForce,
  readCertificate,
  readCertificatePem,
} from "../../src/core/x509/certificate.ts";
import { couldHaveIssued, isSignedBy } from "../../src/core/x509/chain.ts";
import { CAS_BELOW_ROOT, caFaults, caWarnings } from "../../src/core/x509/usable-ca.ts";
import type { IssuerListing, VaultClient } from "./client.ts";
import type { VaultConfig } from "./config.ts";
import type { Work } from "./context.ts";
import { VaultError } from "./errors.ts";
import {
  deleteIssuer,
  deleteMount,
  descriptionOf,
  findMount,
  isOurName,
  newName,
} from "./mounts.ts";
import type { RootFacts } from "./vault-state.ts";

export interface VaultRoot {
  /** The root that peers trust. */
  readonly certificate: Certificate;
  readonly facts: RootFacts;
  /** From the issuer's certificate up to below the root; empty where it is the root. */
  readonly path: readonly Certificate[];
}

/** What is at the root's path, looked at without changing anything. */
export type RootPlan =
  | { readonly kind: "mount" }
  /** @param beside whether there is another one already. */
  | { readonly kind: "generate"; readonly beside: boolean }
  | { readonly kind: "use"; readonly root: VaultRoot };

/**
 * Decides what to do for a root.
 * @param pinned the root in use, where the configuration is still of its mount.
 * @param fresh another one is wanted than the pinned one.
 * @throws {ConfigError} where what is there cannot be used @throws {VaultError}
 */
export async function planRoot(
  work: Work,
  config: VaultConfig,
  pinned: VaultRoot | null,
  fresh: boolean,
): Promise<RootPlan> {
  const { client, clusterId } = work;
  const mount = rootMount(config);
  const found = await findMount(client, mount, "RootPKIPath", clusterId);
  if (found.kind === "none") return { kind: "mount" };
  const issuers = await client.listIssuers(mount);
  const current = issuers.find(({ isDefault }) => isDefault);
  if (pinned !== null) {
    // Another default than ours that somebody else made is what the operator wants us to use.
    const replaced =
      current !== undefined &&
      current.id !== pinned.facts.issuerId &&
      !isOurName(current.name, clusterId);
    if (!replaced && !fresh) return { kind: "use", root: pinned };
    const isGone = !issuers.some(({ id }) => id === pinned.facts.issuerId);
    if (!replaced && (pinned.facts.isOurs || isGone))
      return { kind: "generate", beside: issuers.length > 0 };
    if (!replaced) throw cannotRotate(config, pinned);
  }
  if (current === undefined) return { kind: "generate", beside: false };
  if (current.keyId === "") throw unusable(config, "its default issuer has no key");
  return { kind: "use", root: await readRoot(work, config, current) };
}

/** Carries a plan out. @throws {VaultError} @throws {ConfigError} */
export async function makeRoot(
  work: Work,
  config: VaultConfig,
  plan: RootPlan,
): Promise<VaultRoot> {
  if (plan.kind === "use") return plan.root;
  const { client, clusterId, random, onAbandon } = work;
  const mount = rootMount(config);
  if (plan.kind === "mount") {
    onAbandon((later) => deleteMount(later, mount, { clusterId, what: "root", accessor: null }));
    const ttl = { maxLeaseTtlMs: config.rootTtlMs, defaultLeaseTtlMs: config.rootTtlMs };
    await client.enableMount(mount, {
      type: "pki",
      description: descriptionOf(clusterId, "root"),
      ...ttl,
    });
  }
  const name = newName(clusterId, "root", random);
  onAbandon((later) => deleteNamed(later, config, name));
  const request = {
    commonName: caCommonName("pri", "vault", clusterId, random),
    uriSans: [signingUri(clusterId)],
    keySpec: config.keySpec,
    keyName: name,
    issuerName: name,
    ttlMs: config.rootTtlMs,
  };
  const beside = plan.kind === "generate" && plan.beside;
  const made = await (beside
    ? client.rotateRoot(mount, request)
    : client.generateRoot(mount, request));
  if (made.issuerId === null) throw tooOld();
  const certificate = readCertificatePem(made.certificate);
  const cut = certificate.notAfter.getTime() < work.now.getTime() + config.rootTtlMs - 3_600_000;
  if (cut)
    work.warn(
      `Vault cut the root's life to ${certificate.notAfter.toISOString()}: RootCertTTL is beyond the mount's max_lease_ttl`,
    );
  return { certificate, facts: { mount, issuerId: made.issuerId, isOurs: true }, path: [] };
}

/** A root or an issuer that is gone with its mount is no failure. */
async function deleteNamed(client: VaultClient, config: VaultConfig, name: string): Promise<void> {
  try {
    await deleteIssuer(client, rootMount(config), name, name);
  } catch (error) {
    if (!(error instanceof VaultError) || !["mount_missing", "denied"].includes(error.reason))
      throw error;
    // Without the mount there is no rule for what was in it.
    if ((await client.readMount(rootMount(config))) !== null) throw error;
  }
}

export function rootMount({ root }: VaultConfig): NonNullable<VaultConfig["root"]> {
  if (root === null) throw new ConfigError("must provide a valid path to a root PKI backend");
  return root;
}

/**
 * Reads the default issuer with what stands above it, up to a self-signed root. Anybody may, so
 * that no policy is needed.
 */
async function readRoot(
  work: Work,
  config: VaultConfig,
  issuer: IssuerListing,
): Promise<VaultRoot> {
  const mount = rootMount(config);
  const pem = (await work.client.readCa(mount)) ?? "";
  const chain = readChain(config, pem + ((await work.client.readCaChain(mount)) ?? ""));
  const [own] = chain;
  if (own === undefined) throw unusable(config, "its default issuer is gone");
  const path = [own];
  for (;;) {
    const last = path.at(-1) as Certificate;
    if (!inForce(last, work.now))
      throw unusable(config, `a certificate in its chain ${outOfForce(last, work.now)}`);
    if (await isIssuerOf(last, last)) break;
    const others = chain.filter((candidate) => candidate !== last);
    const next =
      others.find((candidate) => couldHaveIssued(candidate, last)) ??
      (await findAsync(others, (other) => isIssuerOf(other, last)));
    if (next === undefined || path.includes(next))
      throw unusable(
        config,
        "its issuer is no root and the root above it is not there: import the whole chain into the mount",
      );
    path.push(next);
  }
  requireUsable(work, config, path);
  for (const [i, certificate] of path.entries())
    if (!(await isSignedBy(certificate, path[i + 1] ?? certificate)))
      throw unusable(config, "a signature in its chain is wrong");
  // Scheme and trust domain do not differ by case (SPIFFE-ID §2.1), and a CA's ID has nothing else.
  const uris = own.uris.map((uri) => uri.toLowerCase()).filter((uri) => uri.startsWith("spiffe:"));
  const wanted = signingUri(work.clusterId);
  if (uris.length > 0 && !uris.includes(wanted))
    throw unusable(config, `its issuer is of another trust domain than ${wanted}`);
  const facts = { mount, issuerId: issuer.id, isOurs: isOurName(issuer.name, work.clusterId) };
  return { certificate: path.at(-1) as Certificate, facts, path: path.slice(0, -1) };
}

/**
 * Whether a certificate certifies another one, also if something else in it, such as its key usage
 * or a key identifier, is at fault: that is named then, rather than that the issuer is missing.
 */
async function isIssuerOf(issuer: Certificate, subject: Certificate): Promise<boolean> {
  return (
    couldHaveIssued(issuer, subject) ||
    (equal(issuer.subject, subject.issuer) && (await isSignedBy(subject, issuer)))
  );
}

async function findAsync<T>(
  list: readonly T[],
  holds: (one: T) => Promise<boolean>,
): Promise<T | undefined> {
  for (const one of list) if (await holds(one)) return one;
  return undefined;
}

function readChain(config: VaultConfig, pem: string): Certificate[] {
  try {
    const read = readPem(pem).map(({ bytes }) => readCertificate(bytes));
    return [...new Map(read.map((each) => [each.id, each])).values()];
  } catch (error) {
    if (error instanceof FormatError)
      throw unusable(config, `its chain cannot be read: ${error.message}`);
    throw error;
  }
}

/** @throws {ConfigError} with everything for which a verifier would refuse leaves below the path */
function requireUsable(work: Work, config: VaultConfig, path: readonly Certificate[]): void {
  const { clusterId, warn } = work;
  const all: Violation[] = [];
  for (const [i, certificate] of path.entries()) {
    // Below each stand those before it, and the intermediate that signs leaves.
    const casBelow = path.length === 1 ? CAS_BELOW_ROOT : i + 1;
    const who =
      path.length === 1
        ? "it"
        : i === 0
          ? "its issuer"
          : i === path.length - 1
            ? "the root above it"
            : "a certificate between it and its root";
    const faults = caFaults(certificate, {
      clusterId,
      issuer: path[i + 1] ?? certificate,
      casBelow,
    });
    all.push(...faults.map((fault) => ({ ...fault, message: `${who} ${fault.message}` })));
    if (faults.length > 0) continue;
    for (const warning of caWarnings(certificate))
      warn(`The root at ${JSON.stringify(rootMount(config).path)}: ${who} ${warning}`);
  }
  if (all.length > 0) throw unusable(config, all.map(({ message }) => message).join("; "), all);
}

function outOfForce({ notBefore, notAfter }: Certificate, now: Date): string {
  return notBefore > now
    ? `is not valid before ${notBefore.toISOString()}`
    : `expired on ${notAfter.toISOString()}`;
}

function unusable(
  config: VaultConfig,
  why: string,
  faults: readonly Violation[] = [],
): ConfigError {
  return new ConfigError(
    `error configuring provider: RootPKIPath: the root at ${JSON.stringify(rootMount(config).path)} cannot be used: ${why}`,
    faults,
  );
}

function cannotRotate(config: VaultConfig, { path: above, certificate }: VaultRoot): ConfigError {
  const { path } = rootMount(config);
  const make =
    above.length > 0
      ? `import another intermediate of the external root into ${path} (vault write ${path}/issuers/import/bundle pem_bundle=@bundle.pem)`
      : `generate another root in Vault (vault write ${path}/root/rotate/internal common_name="mesh root" uri_sans=${certificate.uris[0] ?? "spiffe://<trust domain>"})`;
  return new ConfigError(
    `Cannot rotate: the root at ${JSON.stringify(path)} was not made by meshca. To rotate, ${make}, make it the default (vault write ${path}/config/issuers default=<issuer id>), and rotate then; it is also taken up by itself within some minutes`,
  );
}

/** Without issuers that have names there is nothing to pin. */
export function tooOld(): ConfigError {
  return new ConfigError(
    "error configuring provider: Vault before 1.11 cannot be used: its PKI engine has no issuers that could be told apart",
  );
}
