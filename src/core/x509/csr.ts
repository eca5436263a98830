/**
 * Reads a PKCS#10 request (RFC 2986) in one pass. A request gives a public key, asks for an identity, and proves that
 * its sender has the key; nothing else in it has any effect on a certificate.
 * @module
 */
import { type Bytes, fromUtf8 } from "../bytes.ts";
import { FormatError, RequestError } from "../errors.ts";
import { readPem } from "../pem.ts";
import { contextConstructed, contextPrimitive, DerReader, TAG } from "./der.ts";
import { type PublicKeyInfo, readPublicKey, readScheme, type SignatureScheme, verifySignature } from "./keys.ts";
import { readOid } from "./oids.ts";

/** The longest URI accepted, in octets (SPIFFE-ID §2.3 allows 2048): a leaf with it keeps its part of the chain's budget. */
export const MAX_URI_LENGTH = 1024;

/** The longest request accepted, in characters of PEM. */
export const MAX_CSR_LENGTH = 16 * 1024;

/** A request whose form, key and subject names were checked; its proof of possession was not. */
export interface CertificateRequest {
  readonly key: PublicKeyInfo;
  /** The one URI subject name. */
  readonly uri: string;
  readonly dnsNames: readonly string[];
  /** Four or sixteen octets each. */
  readonly ipAddresses: readonly Bytes[];
  /** The signed octets, the scheme and the signature over them. */
  readonly signed: Bytes;
  readonly scheme: SignatureScheme;
  readonly signature: Bytes;
}

const LABELS = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];

/**
 * Reads one PEM request.
 * @throws {RequestError} `csr_malformed` (also: a key of a kind that is not accepted), `too_large`.
 */
export function readCsr(pem: string): CertificateRequest {
  if (pem.length > MAX_CSR_LENGTH) throw new RequestError("too_large", `Cannot read CSR: it is longer than ${MAX_CSR_LENGTH} characters`);
  try {
    const blocks = readPem(pem);
    const [block] = blocks;
    if (block === undefined) throw new FormatError("no PEM-encoded data found");
    if (!LABELS.includes(block.label)) throw new FormatError("first PEM-block should be CERTIFICATE REQUEST type");
    if (blocks.length > 1) throw new FormatError("there must be exactly one PEM block");
    if (block.hasHeaders) throw new FormatError("the PEM block must have no headers");
    return readCsrDer(block.bytes);
  } catch (error) {
    if (error instanceof FormatError) throw new RequestError("csr_malformed", `Cannot read CSR: ${error.message}`);
    throw error;
  }
}

/**
 * Reads one DER request.
 * @throws {FormatError} @throws {RequestError} `csr_malformed` where Consul has a text of its own.
 */
export function readCsrDer(der: Bytes): CertificateRequest {
  const outer = new DerReader(der);
  const request = outer.enter(TAG.sequence);
  outer.finish();
  const info = request.enter(TAG.sequence);
  const signed = request.element();
  if (info.small() !== 0) throw new FormatError("version must be 0");
  checkName(info.enter(TAG.sequence));
  info.expect(TAG.sequence);
  const spki = info.element();
  const names: SubjectNames = { uris: [], emails: 0, dnsNames: [], ipAddresses: [], seen: false };
  if (info.optional(contextConstructed(0))) readAttributes(info.inside(), names);
  info.finish();

  // The key before the signature: what kind of key it is decides what is said.
  const key = readPublicKey(spki);
  const scheme = readScheme(request);
  const signature = request.bitString();
  request.finish();
  if (scheme.type !== key.type) throw new FormatError(`signature algorithm does not fit the ${key.type} key`);
  // Consul's texts, which its users search for (consul-ca.md §1.8).
  if (names.uris.length !== 1) throw new RequestError("csr_malformed", `CSR SAN contains an invalid number of URIs: ${names.uris.length}`);
  if ((names.uris[0] as string).length > MAX_URI_LENGTH)
    throw new RequestError("csr_malformed", `Cannot read CSR: its URI is longer than ${MAX_URI_LENGTH} characters`);
  if (names.emails > 0) throw new RequestError("csr_malformed", "CSR SAN does not allow specifying email addresses");
  const { dnsNames, ipAddresses } = names;
  return { key, uri: names.uris[0] as string, dnsNames, ipAddresses, signed, scheme, signature };
}

/**
 * Proves that the request was signed with the private half of its key.
 * @throws {RequestError} `csr_proof_failed`
 */
export async function verifyProof(request: CertificateRequest): Promise<void> {
  if (!(await verifySignature(request.key, request.scheme, request.signature, request.signed)))
    throw new RequestError("csr_proof_failed", "Cannot accept CSR: its signature does not verify with its own public key");
}

/**
 * Reads the request of a CA of this trust domain and proves that it has its key. Names it asks for besides are refused.
 * @param uri the trust domain's SPIFFE ID. @throws {RequestError}
 */
export async function readCaRequest(pem: string, uri: string): Promise<CertificateRequest> {
  const request = readCsr(pem);
  if (request.uri !== uri || request.dnsNames.length > 0 || request.ipAddresses.length > 0)
    throw new RequestError("profile_violation", `Cannot sign intermediate: its request must have the one name ${JSON.stringify(uri)}`);
  if (request.key.type === "ed25519") throw new RequestError("profile_violation", "Cannot sign intermediate: its key must be EC or RSA");
  await verifyProof(request);
  return request;
}

interface SubjectNames {
  readonly uris: string[];
  emails: number;
  readonly dnsNames: string[];
  readonly ipAddresses: Bytes[];
  seen: boolean;
}

/** Walks a Name (RFC 5280 §4.1.2.4): its content is not used, but it must be one. */
function checkName(name: DerReader): void {
  while (!name.done) {
    const set = name.enter(TAG.set);
    if (set.done) throw new FormatError("relative distinguished name is empty");
    while (!set.done) {
      const attribute = set.enter(TAG.sequence);
      attribute.oid();
      attribute.next();
      attribute.finish();
    }
  }
}

function readAttributes(attributes: DerReader, names: SubjectNames): void {
  while (!attributes.done) {
    const attribute = attributes.enter(TAG.sequence);
    const name = readOid(attribute);
    const values = attribute.enter(TAG.set);
    attribute.finish();
    if (values.done) throw new FormatError("attribute has no value");
    if (name !== "extensionRequest") {
      while (!values.done) values.next();
      continue;
    }
    if (names.seen) throw new FormatError("extension request appears twice");
    names.seen = true;
    readExtensions(values.enter(TAG.sequence), names);
    values.finish();
  }
}

function readExtensions(extensions: DerReader, names: SubjectNames): void {
  let sawNames = false;
  while (!extensions.done) {
    const extension = extensions.enter(TAG.sequence);
    const name = readOid(extension);
    // X.690 §11.5: a value equal to its DEFAULT is left out.
    if (extension.peek() === TAG.boolean && !extension.boolean()) throw new FormatError("DER encodes a DEFAULT value");
    extension.expect(TAG.octetString);
    const value = extension.inside();
    extension.finish();
    if (name !== "subjectAltName") continue;
    if (sawNames) throw new FormatError("subject alternative name appears twice");
    sawNames = true;
    readSubjectNames(value, names);
  }
}

function readSubjectNames(outer: DerReader, names: SubjectNames): void {
  const list = outer.enter(TAG.sequence);
  outer.finish();
  if (list.done) throw new FormatError("subject alternative name is empty");
  while (!list.done) {
    list.next();
    // RFC 5280 §4.2.1.6, GeneralName.
    if (list.tag === contextPrimitive(6)) names.uris.push(ia5(list.content()));
    else if (list.tag === contextPrimitive(2)) names.dnsNames.push(ia5(list.content()));
    else if (list.tag === contextPrimitive(1)) names.emails++;
    else if (list.tag === contextPrimitive(7)) names.ipAddresses.push(list.content());
    else throw new FormatError("subject alternative name has an entry that is no URI, DNS name or IP address");
  }
  if (names.ipAddresses.some((address) => address.length !== 4 && address.length !== 16))
    throw new FormatError("IP address in subject alternative name must have 4 or 16 octets");
}

function ia5(content: Bytes): string {
  for (const byte of content) if (byte < 0x20 || byte > 0x7e) throw new FormatError("subject alternative name is not printable ASCII");
  return fromUtf8(content);
}
