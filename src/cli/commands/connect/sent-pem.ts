/**
 * Certificates that a server sends in PEM, before they are written to a file: a file of a leaf or of
 * roots has nothing else in it.
 * @module
 */
import { FormatError } from "../../../core/errors.ts";
import { readPem } from "../../../core/pem.ts";
import { type Certificate, readCertificate } from "../../../core/x509/certificate.ts";
import type { Connection } from "../../connection/connection.ts";

/**
 * Reads them. @param what was asked: `GET /v1/connect/ca/roots`
 * @throws {Failure} if it has no certificate, or something else than certificates
 */
export function readSentPem(
  text: string,
  connection: Connection,
  what: string,
): readonly [Certificate, ...Certificate[]] {
  const found: Certificate[] = [];
  try {
    for (const { label, bytes } of readPem(text)) {
      if (label !== "CERTIFICATE") throw new FormatError(`it has a PEM block ${label}`);
      found.push(readCertificate(bytes));
    }
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw connection.foreign(
      `its answer to ${what} has a certificate that cannot be read: ${error.message}`,
    );
  }
  const [first, ...others] = found;
  if (first === undefined) throw connection.foreign(`its answer to ${what} has no certificate`);
  return [first, ...others];
}
