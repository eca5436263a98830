/**
 * Whether name constraints (RFC 5280 §4.2.1.10) of a CA certificate allow the certificates that this
 * CA issues below it.
 * @module
 */
import { FormatError, readOrNull } from "../errors.ts";
import { formatSpiffeId } from "../spiffe/id.ts";
import type { Certificate, CertificateExtension } from "./certificate.ts";
import { contextPrimitive, DerError, DerReader, encode, TAG } from "./der.ts";
import {
  constrainsTag,
  constrainsUris,
  excludesUnusual,
  forbiddenBy,
  hasUnusualKind,
  isUnreadableByJava,
  type NameConstraints,
  type NamesBelow,
  readNameConstraints,
} from "./name-constraints.ts";
import { nameOf } from "./names.ts";
import { OID } from "./oids.ts";

/**
 * Finds what in the name constraints of a CA makes verifiers refuse leaves below it.
 * @returns each fault as the predicate of a sentence whose subject is the certificate.
 */
export function constraintFaults(
  { value, critical }: CertificateExtension,
  trustDomain: string,
): string[] {
  const refused = (what: string) => `has name constraints that ${what}`;
  let constraints: NameConstraints;
  try {
    constraints = readNameConstraints(value);
  } catch (error) {
    if (error instanceof DerError) return [refused(`cannot be read: a part ${error.predicate}`)];
    if (error instanceof FormatError) return [refused(error.message)];
    throw error;
  }
  const faults = forbiddenBy(constraints, namesBelow(trustDomain)).map((what) =>
    refused(`${what}, which certificates below it have`),
  );
  if (critical && hasUnusualKind(constraints))
    faults.push(
      refused("are critical and speak of directory names or other names that Go does not process"),
    );
  if (critical && isUnreadableByJava(constraints))
    faults.push(
      refused(
        "are critical and have a name that Java does not read: a URI constraint must be a host, without scheme and port",
      ),
    );
  return faults;
}

/** The names in certificates of this CA: leaves of services, agents and gateways, CA certificates. */
function namesBelow(trustDomain: string): NamesBelow {
  return {
    uris: [formatSpiffeId({ kind: "signing", trustDomain })],
    // As in `consulNames` and LOOPBACK of ca/leaf-names.ts; the names of any datacenter are below the same
    // domains.
    dnsNames: ["localhost", `server.dc1.peering.${trustDomain}`],
    ipAddresses: [
      Uint8Array.of(127, 0, 0, 1),
      Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
    ],
    // As `caCommonName` makes them, whatever the letters that are random.
    subjects: [encode(nameOf("pri-root.ca.consul"))],
  };
}

/**
 * Which verifiers refuse leaves below name constraints that have no faults.
 * @returns each as the predicate of a sentence whose subject is the certificate.
 */
export function constraintWarnings(extensions: readonly CertificateExtension[]): string[] {
  const constraints = constraintsAmong(extensions);
  const warnings: string[] = [];
  if (constraints !== null && constrainsUris(constraints))
    warnings.push(
      "has name constraints on URIs or directory names, which rustls does not process: it refuses every leaf below it",
    );
  if (constraints !== null && excludesUnusual(constraints))
    warnings.push(
      "has name constraints that exclude other names than DNS names, IP and e-mail addresses, for which GnuTLS refuses every leaf",
    );
  return warnings;
}

/**
 * Finds name constraints in a path that forbid a name below them (RFC 5280 §6.1.3 b and c).
 * @param path leaf first, root last, as `findPath` returns it.
 * @param more names of other leaves of the issuer, which are checked as those of the leaf are.
 * @returns each fault as a sentence.
 */
export function pathConstraintFaults(
  path: readonly Certificate[],
  more: Pick<NamesBelow, "dnsNames" | "ipAddresses">,
): string[] {
  return path.flatMap((certificate, i) => {
    const constraints = constraintsAmong(certificate.extensions);
    if (constraints === null) return [];
    const below = path.slice(0, i);
    const names: NamesBelow = {
      uris: below.flatMap(({ uris }) => uris),
      dnsNames: [...below.flatMap(({ dnsNames }) => dnsNames), ...more.dnsNames],
      ipAddresses: [...below.flatMap(({ ipAddresses }) => ipAddresses), ...more.ipAddresses],
      subjects: below.map(({ subject }) => subject),
    };
    const faults = forbiddenBy(constraints, names);
    if (below.flatMap(rareTags).some((tag) => constrainsTag(constraints, tag)))
      faults.push("speak of e-mail addresses, directory names or other names, which one below has");
    return faults.map(
      (what) =>
        `name constraints of ${i === path.length - 1 ? "the root" : "a certificate below the root"} ${what}`,
    );
  });
}

/** The tags of GeneralName that `Certificate` has names of. */
const READ_TAGS: readonly number[] = [
  contextPrimitive(2),
  contextPrimitive(6),
  contextPrimitive(7),
];

/** The tags of the other names that a certificate has, which are not compared. */
function rareTags({ extensions }: Certificate): readonly number[] {
  const found = extensions.find(({ oid }) => oid === OID.subjectAltName);
  const tags: number[] = [];
  if (found === undefined) return tags;
  const list = new DerReader(found.value).enterLast(TAG.sequence);
  while (!list.done) {
    list.next();
    if (!READ_TAGS.includes(list.tag)) tags.push(list.tag);
  }
  return tags;
}

/** Whether a certificate has name constraints. */
export function hasNameConstraints({ extensions }: Certificate): boolean {
  return extensions.some(({ oid }) => oid === OID.nameConstraints);
}

/**
 * Which names of a leaf the name constraints of the certificates above it forbid.
 * @returns each as a sentence.
 */
export function constraintFaultsOf(
  above: readonly Certificate[],
  names: Pick<NamesBelow, "dnsNames" | "ipAddresses">,
): string[] {
  return above.flatMap((certificate) => {
    const constraints = constraintsAmong(certificate.extensions);
    if (constraints === null) return [];
    return forbiddenBy(constraints, { uris: [], subjects: [], ...names }).map(
      (what) => `name constraints of the CA certificate ${certificate.id} ${what}`,
    );
  });
}

/**
 * @returns null if there are no name constraints, or ones that cannot be read: roots with such ones
 * may be in use since an earlier version.
 */
function constraintsAmong(extensions: readonly CertificateExtension[]): NameConstraints | null {
  const extension = extensions.find((each) => each.oid === OID.nameConstraints);
  return extension === undefined ? null : readOrNull(() => readNameConstraints(extension.value));
}
