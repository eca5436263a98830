/**
 * Reads a PKCS#10 request (RFC 2986) in one pass: its public key, the subject names that it asks for
 * and its proof of possession. Nothing else in it has an effect on a certificate.
 * @module
 */
import { type Bytes, equal, fromUtf8 } from "../bytes.ts";
import { FormatError, RequestError } from "../errors.ts";
import { readPem } from "../pem.ts";
import {
  contextConstructed,
  contextPrimitive,
  DerReader,
  inWords,
  oidContent,
  TAG,
} from "./der.ts";
import {
  type PublicKeyInfo,
  readPublicKey,
  readScheme,
  type SignatureScheme,
  verifySignature,
} from "./keys.ts";
import { OID } from "./oids.ts";

/**
 * The longest URI accepted, in octets: SPIFFE-ID §2.3 allows 2048, but the leaf must keep its part of
 * the size of the chain.
 */
export const MAX_URI_LENGTH = 1024;

/** The longest request accepted, in characters of PEM. */
export const MAX_CSR_LENGTH = 16 * 1024;

/** A request whose format, key and subject names were checked; its proof of possession was not. */
export interface CertificateRequest {
  readonly key: PublicKeyInfo;
  /** The one URI subject name; null if the request has none and need not have one. */
  readonly uri: string | null;
  readonly dnsNames: readonly string[];
  /** Four or sixteen octets each. */
  readonly ipAddresses: readonly Bytes[];
  /** The signed octets, the scheme and the signature over them. */
  readonly signed: Bytes;
  readonly scheme: SignatureScheme;
  readonly signature: Bytes;
}

const LABELS = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];

const EXTENSION_REQUEST = oidContent(OID.extensionRequest);
const MICROSOFT_EXTENSION_REQUEST = oidContent(OID.microsoftExtensionRequest);
const SUBJECT_ALT_NAME = oidContent(OID.subjectAltName);

/**
 * Reads one PEM request.
 * @param mayLackUri whether it may have no URI, whose identity is then known otherwise.
 * @throws {RequestError} `csr_malformed`, also for a key of a kind that is not accepted; `too_large`.
 */
export function readCsr(pem: string, mayLackUri = false): CertificateRequest {
  if (pem.length > MAX_CSR_LENGTH)
    throw new RequestError(
      "too_large",
      `Cannot read CSR: it is longer than ${MAX_CSR_LENGTH} characters`,
    );
  try {
    const blocks = readPem(pem);
    const [block] = blocks;
    if (block === undefined) throw new FormatError("no PEM-encoded data found");
    if (!LABELS.includes(block.label))
      throw new FormatError("first PEM-block should be CERTIFICATE REQUEST type");
    if (blocks.length > 1) throw new FormatError("there must be exactly one PEM block");
    if (block.hasHeaders) throw new FormatError("the PEM block must have no headers");
    return readCsrDer(block.bytes, mayLackUri);
  } catch (error) {
    if (error instanceof FormatError)
      throw new RequestError("csr_malformed", `Cannot read CSR: ${error.message}`);
    throw error;
  }
}

/**
 * Reads one DER request.
 * @throws {FormatError} with "it" or "its" for the CSR as subject. @throws {RequestError}
 * `csr_malformed` if Consul has a text of its own.
 */
export function readCsrDer(der: Bytes, mayLackUri = false): CertificateRequest {
  const walk: Walk = {
    part: "it",
    uris: [],
    emails: 0,
    dnsNames: [],
    ipAddresses: [],
    asked: null,
  };
  try {
    return readParts(der, walk, mayLackUri);
  } catch (error) {
    throw inWords(walk.part, error);
  }
}

function readParts(der: Bytes, walk: Walk, mayLackUri: boolean): CertificateRequest {
  const request = new DerReader(der).enterLast(TAG.sequence);
  const info = request.enter(TAG.sequence);
  const signed = request.element();
  walk.part = "its version";
  // Only version 0 is defined, but many programs write that of a certificate, and OpenSSL, Go and
  // Consul do not look at it.
  if (info.small() > 2) throw new FormatError("its version must be 0");
  walk.part = "its subject";
  checkName(info.enter(TAG.sequence));
  walk.part = "its public key";
  info.expect(TAG.sequence);
  const spki = info.element();
  walk.part = "its list of attributes";
  if (info.optional(contextConstructed(0))) readAttributes(info.inside(), walk);
  walk.part = "it";
  info.finish();

  // The key before the signature, so that a key of the wrong kind is refused as such.
  walk.part = "its public key";
  const key = readPublicKey(spki);
  walk.part = "its signature algorithm";
  const scheme = readScheme(request);
  walk.part = "its signature";
  const signature = request.bitString();
  walk.part = "it";
  request.finish();
  if (scheme.type !== key.type)
    throw new FormatError(`its signature algorithm does not fit its ${key.type} key`);
  const { uris, dnsNames, ipAddresses, emails } = walk;
  // Consul's texts, which its users search for (agent/consul/leader_connect_ca.go).
  const [uri = null] = uris;
  if (uris.length > 1 || (uri === null && !mayLackUri))
    throw new RequestError(
      "csr_malformed",
      `CSR SAN contains an invalid number of URIs: ${uris.length}`,
    );
  if (uri !== null && uri.length > MAX_URI_LENGTH)
    throw new RequestError(
      "csr_malformed",
      `Cannot read CSR: its URI is longer than ${MAX_URI_LENGTH} characters`,
    );
  if (emails > 0)
    throw new RequestError("csr_malformed", "CSR SAN does not allow specifying email addresses");
  return { key, uri, dnsNames, ipAddresses, signed, scheme, signature };
}

/**
 * Proves that the request was signed with the private half of its key.
 * @throws {RequestError} `csr_proof_failed`
 */
export async function verifyProof(request: CertificateRequest): Promise<void> {
  if (!(await verifySignature(request.key, request.scheme, request.signature, request.signed)))
    throw new RequestError(
      "csr_proof_failed",
      "Cannot accept CSR: its signature does not verify with its own public key",
    );
}

/** What was found in a request so far. */
interface Walk {
  /** Which part of the request is being read, as the subject of a sentence. */
  part: string;
  readonly uris: string[];
  emails: number;
  readonly dnsNames: string[];
  readonly ipAddresses: Bytes[];
  /** The subject alternative name, in DER. */
  asked: Bytes | null;
}

/**
 * Checks a Name (RFC 5280 §4.1.2.4). Its content has no effect, so an empty relative distinguished
 * name is accepted, which some tools write for an empty field.
 */
function checkName(name: DerReader): void {
  while (!name.done) {
    const set = name.enter(TAG.set);
    while (!set.done) {
      const attribute = set.enter(TAG.sequence);
      attribute.oid();
      attribute.next();
      attribute.finish();
    }
  }
}

/** Reads the extension requests. Other attributes may lack a value, as some tools write them. */
function readAttributes(attributes: DerReader, walk: Walk): void {
  while (!attributes.done) {
    walk.part = "its list of attributes";
    const attribute = attributes.enter(TAG.sequence);
    attribute.oid();
    if (
      !attribute.contentIs(EXTENSION_REQUEST) &&
      !attribute.contentIs(MICROSOFT_EXTENSION_REQUEST)
    )
      continue;
    walk.part = "its extension request";
    if (attribute.done) continue;
    const values = attribute.enterLast(TAG.set);
    while (!values.done) readExtensions(values.enter(TAG.sequence), walk);
  }
}

/**
 * Reads the subject alternative name. As OpenSSL and Go do, it accepts an explicit `critical FALSE`
 * and several extension requests, if all ask for the same subject names.
 */
function readExtensions(extensions: DerReader, walk: Walk): void {
  while (!extensions.done) {
    const extension = extensions.enter(TAG.sequence);
    extension.oid();
    const isSubjectAltName = extension.contentIs(SUBJECT_ALT_NAME);
    if (extension.peek() === TAG.boolean) extension.boolean();
    extension.expect(TAG.octetString);
    if (!isSubjectAltName) {
      extension.finish();
      continue;
    }
    const value = extension.content();
    const inside = extension.inside();
    extension.finish();
    if (walk.asked !== null) {
      if (!equal(walk.asked, value))
        throw new FormatError("it asks twice for subject alternative names, with different names");
      continue;
    }
    walk.asked = value;
    walk.part = "its subject alternative name";
    readSubjectNames(inside, walk);
    walk.part = "its extension request";
  }
}

/** The choices of GeneralName that are not accepted, by tag (RFC 5280 §4.2.1.6). */
const REFUSED_NAMES: Readonly<Record<number, string>> = {
  [contextConstructed(0)]: "an otherName, for example a Kerberos or a user principal name",
  [contextConstructed(3)]: "an X.400 address",
  [contextConstructed(4)]: "a directory name",
  [contextConstructed(5)]: "an EDI party name",
  [contextPrimitive(8)]: "a registered ID",
};

function readSubjectNames(outer: DerReader, walk: Walk): void {
  const list = outer.enter(TAG.sequence);
  outer.finish();
  if (list.done) throw new FormatError("its subject alternative name is empty");
  while (!list.done) {
    list.next();
    if (list.tag === contextPrimitive(6)) walk.uris.push(ia5(list.content()));
    else if (list.tag === contextPrimitive(2)) walk.dnsNames.push(ia5(list.content()));
    else if (list.tag === contextPrimitive(1)) walk.emails++;
    else if (list.tag === contextPrimitive(7)) walk.ipAddresses.push(list.content());
    else
      throw new FormatError(
        `its subject alternative name has ${REFUSED_NAMES[list.tag] ?? "an entry of an unknown kind"}: only URIs, DNS names and IP addresses can be asked for`,
      );
  }
  if (walk.ipAddresses.some((address) => address.length !== 4 && address.length !== 16))
    throw new FormatError("an IP address in its subject alternative name must have 4 or 16 octets");
}

function ia5(content: Bytes): string {
  for (const byte of content)
    if (byte < 0x20 || byte > 0x7e)
      throw new FormatError("its subject alternative name is not printable ASCII");
  return fromUtf8(content);
}
