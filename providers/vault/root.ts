/**
 * The root in Vault, with the path below it if the mount holds an intermediate of an external root.
 * @module
 */
import { equal } from "../../src/core/bytes.ts";
import { ConfigError, FormatError } from "../../src/core/errors.ts";
import { readPem } from "../../src/core/pem.ts";
import { signingUri } from "../../src/core/x509/authority.ts";
import { type Certificate, inForce, readCertificate } from "../../src/core/x509/certificate.ts";
import { couldHaveIssued, isSignedBy } from "../../src/core/x509/chain.ts";
import { CAS_BELOW_ROOT, caFaults, caWarnings } from "../../src/core/x509/usable-ca.ts";
import type { Mount } from "./config.ts";
import type { ChangeContext } from "./context.ts";
import { belongsTo, isOurName, otherDatacenterOf } from "./mounts.ts";
import type { IssuerListing } from "./pki-api.ts";
import type { RootState } from "./vault-state.ts";

export interface VaultRoot {
  /** The root that peers trust. */
  readonly certificate: Certificate;
  readonly state: RootState;
  /** From the issuer's certificate up to below the root; empty if the issuer is the root. */
  readonly path: readonly Certificate[];
}

/**
 * Reads the default issuer of a mount with its chain, up to a self-signed root. That needs no
 * permission.
 * @throws {ConfigError} if verifiers would refuse leaves below it @throws {VaultError}
 */
export async function readRoot(
  context: ChangeContext,
  mount: Mount,
  issuer: IssuerListing,
): Promise<VaultRoot> {
  const { api, trustDomain, now, warn } = context;
  const other = otherDatacenterOf(issuer.name, context);
  if (other !== null) throw unusable(mount, `its default issuer ${belongsTo(other)}`);
  if (issuer.keyId === "")
    throw unusable(mount, "its default issuer has no key; make an issuer with a key the default");
  const pem = `${(await api.readCa(mount)) ?? ""}${(await api.readCaChain(mount)) ?? ""}`;
  const chain = readChain(mount, pem);
  const path = await pathToRoot(mount, chain, now);
  requireUsable(mount, trustDomain, path);
  for (const [i, certificate] of path.entries())
    if (!(await isSignedBy(certificate, path[i + 1] ?? certificate)))
      throw unusable(mount, "a signature in its chain is wrong");
  const [own] = path as [Certificate, ...Certificate[]];
  // Scheme and trust domain do not differ by case (SPIFFE-ID §2.1), and a CA's ID has nothing else.
  const uris = own.uris.map((uri) => uri.toLowerCase()).filter((uri) => uri.startsWith("spiffe:"));
  const wanted = signingUri({ trustDomain });
  if (uris.length > 0 && !uris.includes(wanted))
    throw unusable(mount, `its issuer belongs to another trust domain than ${wanted}`);
  for (const [i, certificate] of path.entries())
    for (const warning of caWarnings(certificate))
      warn(`The root at ${JSON.stringify(mount.path)}: ${placeOf(i, path)} ${warning}`);
  return {
    certificate: path.at(-1) as Certificate,
    state: { mount, issuerId: issuer.id, isOurs: isOurName(issuer.name, context) },
    path: path.slice(0, -1),
  };
}

/** From the issuer up to the root, both included. */
async function pathToRoot(
  mount: Mount,
  chain: readonly Certificate[],
  now: Date,
): Promise<Certificate[]> {
  const [own] = chain;
  if (own === undefined) throw unusable(mount, "its default issuer was deleted");
  const path = [own];
  for (let last = own; ; ) {
    if (!inForce(last, now))
      throw unusable(mount, `a certificate in its chain ${validityFault(last, now)}`);
    if (await isIssuerOf(last, last)) return path;
    const next = await issuerAmong(
      chain.filter((candidate) => candidate !== last),
      last,
    );
    if (next === undefined || path.includes(next))
      throw unusable(
        mount,
        "its issuer is not a root, and the root above it is missing: import the whole chain into the mount",
      );
    path.push(next);
    last = next;
  }
}

async function issuerAmong(
  candidates: readonly Certificate[],
  subject: Certificate,
): Promise<Certificate | undefined> {
  const fitting = candidates.find((candidate) => couldHaveIssued(candidate, subject));
  if (fitting !== undefined) return fitting;
  for (const candidate of candidates) if (await isIssuerOf(candidate, subject)) return candidate;
  return undefined;
}

/**
 * Whether a certificate certifies another one, also if its key usage or a key identifier is at
 * fault: the error then names that fault, and not that the issuer is missing.
 */
async function isIssuerOf(issuer: Certificate, subject: Certificate): Promise<boolean> {
  return (
    couldHaveIssued(issuer, subject) ||
    (equal(issuer.subject, subject.issuer) && (await isSignedBy(subject, issuer)))
  );
}

function readChain(mount: Mount, pem: string): Certificate[] {
  try {
    const read = readPem(pem).map(({ bytes }) => readCertificate(bytes));
    return [...new Map(read.map((each) => [each.id, each])).values()];
  } catch (error) {
    if (error instanceof FormatError)
      throw unusable(mount, `a certificate of its chain cannot be read: ${error.message}`);
    throw error;
  }
}

/** @throws {ConfigError} with everything for which a verifier would refuse leaves below the path */
function requireUsable(mount: Mount, trustDomain: string, path: readonly Certificate[]): void {
  const all = path.flatMap((certificate, i) => {
    // Below each are those before it, and the intermediate that signs leaves.
    const casBelow = path.length === 1 ? CAS_BELOW_ROOT : i + 1;
    const issuer = path[i + 1] ?? certificate;
    return caFaults(certificate, { trustDomain, issuer, casBelow }).map(
      (fault) => `${placeOf(i, path)} ${fault}`,
    );
  });
  if (all.length > 0) throw unusable(mount, all.join("; "));
}

/** What a certificate of a path is called in a text. */
function placeOf(index: number, path: readonly Certificate[]): string {
  if (path.length === 1) return "it";
  if (index === 0) return "its issuer";
  return index === path.length - 1 ? "the root above it" : "a certificate between it and its root";
}

function validityFault({ notBefore, notAfter }: Certificate, now: Date): string {
  return notBefore > now
    ? `is not valid before ${notBefore.toISOString()}`
    : `expired on ${notAfter.toISOString()}`;
}

function unusable({ path }: Mount, why: string): ConfigError {
  return new ConfigError(
    `error configuring provider: RootPKIPath: the root at ${JSON.stringify(path)} cannot be used: ${why}`,
  );
}
