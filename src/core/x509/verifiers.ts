/**
 * Which verifiers refuse a path within RFC 5280, and why: the rules. Their limits are data, in
 * verifier-table.ts.
 * @module
 */
import { equal } from "../bytes.ts";
import { type Certificate, KEY_USAGE } from "./certificate.ts";
import { pathConstraintFaults } from "./constraint-faults.ts";
import type { PublicKeyInfo } from "./keys.ts";
import { OID } from "./oids.ts";
import { caWarnings } from "./usable-ca.ts";

/** In which a verifier verifies: a client verifies a server's certificate, and a server a client's. */
export type VerifierRole = "client" | "server";

/** A kind of key as in texts: `P-521`, `RSA 2048`, `Ed25519`. */
export type KeyName = `P-${number}` | `RSA ${number}` | "Ed25519";

/** KeyUsage bits (RFC 5280 §4.2.1.3) of which a leaf must have one, by its kind of key; 0: none is needed. */
export interface LeafUsage {
  readonly rsa: number;
  /** EC and Ed25519. */
  readonly ec: number;
}

/** The limits of a verifier with its defaults. */
export interface Verifier {
  /** As it is named in `meshca verify --like`. */
  readonly name: string;
  /** As it is named in the documentation, with the versions if they differ. */
  readonly title: string;
  /** The roles that the limits are those of. */
  readonly roles: readonly VerifierRole[];
  /** Certificates that a peer may send, the leaf included; null: no bound below 110. */
  readonly maxSent: number | null;
  /** CA certificates between the leaf and the root of the path; null: no bound below 110. */
  readonly maxIntermediates: number | null;
  /** The same if they are not sent in the order of their signatures; null: no difference. */
  readonly maxUnsorted: number | null;
  /** The same if they are sent in order, with other certificates among them; null: no difference. */
  readonly maxInterspersed: number | null;
  /** Octets of the Certificate message that it accepts. */
  readonly maxBytes: number;
  /** Whether a root that it trusts ends the path although the peer sent certificates beyond. */
  readonly stopsAtRoot: boolean;
  /** Kinds of keys of a CA whose signatures it does not verify. */
  readonly refusedSigners: readonly KeyName[];
  /** Kinds of keys of a leaf that it does not take, in the role that it has. */
  readonly refusedLeafKeys: Readonly<Record<VerifierRole, readonly KeyName[]>>;
  /** What the key usage of a leaf must allow, if it has one. */
  readonly leafUsage: Readonly<Record<VerifierRole, LeafUsage>>;
  /** Whether it reads the key usage of a CA: not at all, keyCertSign if there is one, or demands it. */
  readonly caUsage: "ignored" | "if-present" | "demanded";
  /** Critical name constraints of a CA: applied, or every certificate below is refused. */
  readonly nameConstraints: "applied" | "refused";
  /** By which words it is named in the warnings of a CA certificate, or null. */
  readonly warnedAs: RegExp | null;
  /** Where the limits are documented. */
  readonly source: string;
}

/** What a peer presents to verifiers. */
export interface PresentedPath {
  /**
   * The leaf first, the root last. A CA certificate in place of the leaf stands for one of its size: its
   * key, usage and names are not judged.
   */
  readonly path: readonly Certificate[];
  /** What the peer sends, the leaf included, in order. */
  readonly sent: readonly Certificate[];
  /** The roots that a verifier trusts. @default the root of the path */
  readonly roots?: readonly Certificate[];
}

/** A verifier that refuses a path. */
export interface Refusal {
  readonly verifier: string;
  /** Each as a sentence. */
  readonly reasons: readonly string[];
}

/** The verifiers that refuse a path that verifies by RFC 5280, and why. */
export function refusals(verifiers: readonly Verifier[], presented: PresentedPath): Refusal[] {
  return verifiers
    .map((one) => ({ verifier: one.name, reasons: verifierFaults(one, presented) }))
    .filter(({ reasons }) => reasons.length > 0);
}

/**
 * How many cross-signed certificates a chain may have: one for each rotation since the root that a
 * verifier knows.
 * @param issuers CA certificates between the leaf and the active root: none with the built-in provider.
 * @returns null if there is no bound below 110
 */
export function maxCrossings(
  { maxSent, maxIntermediates }: Pick<Verifier, "maxSent" | "maxIntermediates">,
  issuers = 0,
): number | null {
  const bounds = [
    ...(maxSent === null ? [] : [maxSent - 1 - issuers]),
    ...(maxIntermediates === null ? [] : [maxIntermediates - issuers]),
  ];
  return bounds.length === 0 ? null : Math.max(0, Math.min(...bounds));
}

/** The octets of certificates in a message: a length of three and extensions of two each (RFC 8446 §4.4.2). */
export function messageBytes(sent: readonly Certificate[]): number {
  return sent.reduce((sum, { der }) => sum + der.length + 5, 0);
}

/** What a verifier has against a path that verifies. @returns each fault as a sentence */
export function verifierFaults(verifier: Verifier, presented: PresentedPath): string[] {
  return [
    ...sizeFaults(verifier, presented),
    ...orderFaults(verifier, presented),
    ...keyFaults(verifier, presented.path),
    ...leafUsageFaults(verifier, presented.path),
    ...caFaults(verifier, presented.path),
  ];
}

function sizeFaults(
  { name, maxSent, maxIntermediates, maxBytes }: Verifier,
  { path, sent }: PresentedPath,
): string[] {
  const between = Math.max(0, path.length - 2);
  const bytes = messageBytes(sent);
  const rules: readonly (readonly [holds: boolean, fault: string])[] = [
    [
      maxIntermediates === null || between <= maxIntermediates,
      `${name} accepts ${maxIntermediates} CA certificates between leaf and root, and there are ${between}`,
    ],
    [
      maxSent === null || sent.length <= maxSent,
      `${name} accepts ${maxSent} certificates of a peer, and ${sent.length} are sent`,
    ],
    [
      bytes <= maxBytes,
      `${name} accepts certificates of ${maxBytes} octets, and there are ${bytes}`,
    ],
  ];
  return rules.filter(([holds]) => !holds).map(([, fault]) => fault);
}

function orderFaults(
  { name, maxUnsorted, maxInterspersed, stopsAtRoot }: Verifier,
  { path, sent, roots = path.slice(-1) }: PresentedPath,
): string[] {
  const faults: string[] = [];
  const between = Math.max(0, path.length - 2);
  const places = path.slice(0, -1).map((certificate) => sent.indexOf(certificate));
  const isSorted = places.every((at, i) => i === 0 || at > (places[i - 1] ?? 0));
  const isWhole = places.every((at, i) => at === i);
  if (maxUnsorted !== null && !isSorted && between > maxUnsorted)
    faults.push(
      `${name} accepts ${maxUnsorted} CA certificates between leaf and root if they are not sent in the order of their signatures, and there are ${between}`,
    );
  if (maxInterspersed !== null && isSorted && !isWhole && between > maxInterspersed)
    faults.push(
      `${name} accepts ${maxInterspersed} CA certificates between leaf and root if others are sent among them, and there are ${between}`,
    );
  // Certificates whose issuer is not sent.
  const ends = sent.filter(
    (certificate) => !sent.some((other) => other !== certificate && hasIssued(other, certificate)),
  );
  if (!stopsAtRoot && !ends.some((end) => roots.some((root) => hasIssued(root, end))))
    faults.push(
      `${name} looks for a root that it trusts only at the end of a chain, and none of them has issued the last certificate: give it all published roots`,
    );
  return faults;
}

const hasIssued = ({ subject, subjectKeyId }: Certificate, certificate: Certificate): boolean =>
  equal(subject, certificate.issuer) &&
  (subjectKeyId === null ||
    certificate.authorityKeyId === null ||
    equal(subjectKeyId, certificate.authorityKeyId));

/** As texts have a kind of key. */
export function keyName({ type, bits }: Pick<PublicKeyInfo, "type" | "bits">): KeyName {
  if (type === "ed25519") return "Ed25519";
  return type === "ec" ? `P-${bits}` : `RSA ${bits}`;
}

function keyFaults(
  { name, roles, refusedSigners, refusedLeafKeys }: Verifier,
  path: readonly Certificate[],
): string[] {
  const signers = new Set(path.slice(1).map(({ key }) => keyName(key)));
  const faults = refusedSigners
    .filter((kind) => signers.has(kind))
    .map((kind) => `${name} does not verify signatures by keys on ${kind}, which the path has`);
  const [leaf] = path;
  if (leaf === undefined || leaf.isCa) return faults;
  const refusing = roles.filter((role) => refusedLeafKeys[role].includes(keyName(leaf.key)));
  if (refusing.length > 0)
    faults.push(`${asRoles(name, refusing)} takes no leaf on ${keyName(leaf.key)}`);
  return faults;
}

function leafUsageFaults(
  { name, roles, leafUsage }: Verifier,
  [leaf]: readonly Certificate[],
): string[] {
  if (leaf === undefined || leaf.isCa || leaf.keyUsage === null) return [];
  const usage = leaf.keyUsage;
  const needs = (role: VerifierRole) => leafUsage[role][leaf.key.type === "rsa" ? "rsa" : "ec"];
  return roles
    .filter((role) => needs(role) !== 0 && (usage & needs(role)) === 0)
    .map((role) => {
      const bits = (["digitalSignature", "keyEncipherment"] as const).filter(
        (bit) => (needs(role) & KEY_USAGE[bit]) !== 0,
      );
      return `${asRoles(name, [role])} takes no leaf whose key usage lacks ${bits.join(" and ")}`;
    });
}

function caFaults(
  { name, caUsage, nameConstraints, warnedAs }: Verifier,
  path: readonly Certificate[],
): string[] {
  const faults = path.slice(1).flatMap((certificate) => {
    const { id, keyUsage, extensions } = certificate;
    const found: string[] = [];
    if (keyUsage === null && caUsage === "demanded")
      found.push(`${name} demands a key usage of each CA certificate, and ${id} has none`);
    if (keyUsage !== null && (keyUsage & KEY_USAGE.keyCertSign) === 0 && caUsage !== "ignored")
      found.push(
        `${name} takes no CA certificate whose key usage lacks keyCertSign, as ${id} does`,
      );
    const isConstrained = extensions.some(
      ({ oid, critical }) => critical && oid === OID.nameConstraints,
    );
    if (nameConstraints === "refused" && isConstrained)
      found.push(`${name} does not process the critical name constraints of ${id}`);
    // Those of name constraints that are refused are said above.
    const said = nameConstraints === "refused" ? /name constraints/ : /^$/;
    const warnings = warnedAs === null ? [] : caWarnings(certificate);
    for (const text of warnings)
      if (warnedAs?.test(text) && !said.test(text)) found.push(`Certificate ${id} ${text}`);
    return found;
  });
  if (nameConstraints === "refused" || path[0]?.isCa === true) return faults;
  const forbidden = pathConstraintFaults(path, { dnsNames: [], ipAddresses: [] });
  return [...faults, ...forbidden.map((text) => `${name} refuses the path: ${text}`)];
}

const asRoles = (name: string, roles: readonly VerifierRole[]): string =>
  roles.length === 1 ? `${name} as a ${roles[0]}` : name;
