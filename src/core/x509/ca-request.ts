/**
 * The request of the CA of another datacenter: stricter than that of a leaf, since the certificate
 * that it asks for signs leaves.
 * @module
 */
import type { Bytes } from "../bytes.ts";
import { RequestError } from "../errors.ts";
import { readPem } from "../pem.ts";
import { type CertificateRequest, readCsr, verifyProof } from "./csr.ts";
import { OID } from "./oids.ts";
import { readRequestAgain } from "./peculiar.ts";

/** RFC 5280 appendix A.1, ub-common-name. */
const MAX_COMMON_NAME = 64;
/** The extensions that a request may ask for; none of their values has an effect but the name. */
const EXTENSIONS: readonly string[] = [OID.subjectAltName, OID.basicConstraints, OID.keyUsage];

export interface CaRequest extends CertificateRequest {
  /** The only attribute of its subject. */
  readonly commonName: string;
}

/**
 * Reads the request of a CA of this trust domain, and verifies its proof of possession.
 * @param uri the trust domain's SPIFFE ID, the only name that the request is allowed to have.
 * @throws {RequestError}
 */
export async function readCaRequest(pem: string, uri: string): Promise<CaRequest> {
  const request = readCsr(pem, true);
  if (request.uri !== uri || request.dnsNames.length > 0 || request.ipAddresses.length > 0)
    throw refused(`its request must have the one name ${JSON.stringify(uri)}`);
  if (request.key.type === "ed25519") throw refused("its key must be EC or RSA");
  await verifyProof(request);
  const [block] = readPem(pem);
  const { subject, extensionOids } = await readRequestAgain(
    (block as { readonly bytes: Bytes }).bytes,
  );
  const [name] = subject;
  const isOneName = subject.length === 1 && name?.type === "CN";
  if (!isOneName || name.value === "" || name.value.length > MAX_COMMON_NAME)
    throw refused(
      `the subject of its request must be one common name of at most ${MAX_COMMON_NAME} characters`,
    );
  const odd = extensionOids.find((oid) => !EXTENSIONS.includes(oid));
  if (odd !== undefined) throw refused(`its request must not have the extension ${odd}`);
  return { ...request, commonName: name.value };
}

function refused(reason: string): RequestError {
  return new RequestError("profile_violation", `Cannot sign intermediate: ${reason}`);
}
