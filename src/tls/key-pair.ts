/**
 * Reads certificates and keys of PEM texts, and checks that a TLS server can use them.
 * @module
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { FormatError } from "../core/errors.ts";
import { certificatePem, readPem, writePem } from "../core/pem.ts";

/** PEM of a certificate with its chain, and PEM of its private key. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** Why a text cannot be used. It quotes nothing of the text. */
interface Fault {
  readonly message: string;
}

/** Which of the two texts cannot be used. */
interface KeyPairFault extends Fault {
  readonly of: "cert" | "key";
}

/**
 * Reads a certificate and its key from two texts, which may have other contents too and may be the
 * same. An expired certificate is accepted, as by Consul: its clients refuse it.
 */
export function readKeyPair(certText: string, keyText: string): KeyPair | KeyPairFault {
  const cert = readCertificates(certText);
  if (typeof cert !== "string") return { of: "cert", ...cert };
  const key = readKey(keyText);
  if (typeof key !== "string") return { of: "key", ...key };
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(key);
  } catch {
    return { of: "key", message: "contains an invalid private key" };
  }
  if (!new X509Certificate(cert).checkPrivateKey(privateKey))
    return { of: "key", message: "contains a private key that does not match the certificate" };
  try {
    createSecureContext({ cert, key });
  } catch {
    return { of: "cert", message: "contains a certificate that cannot be used for TLS" };
  }
  return { cert, key };
}

/** The certificates of a text in PEM. */
export function readCertificates(text: string): string | Fault {
  try {
    const certificates = readPem(text).filter(({ label }) => label === "CERTIFICATE");
    if (certificates.length === 0) return { message: "contains no certificate in PEM" };
    for (const { bytes } of certificates) new X509Certificate(bytes);
    return certificates.map(({ bytes }) => certificatePem(bytes)).join("");
  } catch (error) {
    return error instanceof FormatError
      ? malformed(error)
      : { message: "contains an invalid certificate" };
  }
}

function readKey(text: string): string | Fault {
  try {
    const found = readPem(text).find(({ label }) => label.endsWith("PRIVATE KEY"));
    if (found === undefined) return { message: "contains no private key in PEM" };
    if (found.label.startsWith("ENCRYPTED") || found.hasHeaders)
      return {
        message:
          "contains an encrypted private key, and there is no setting for its passphrase: decrypt it, for example with openssl pkey",
      };
    return writePem(found.label, found.bytes);
  } catch (error) {
    if (error instanceof FormatError) return malformed(error);
    throw error;
  }
}

function malformed(error: FormatError): Fault {
  return { message: `is malformed: ${error.message}` };
}

/** What to warn of if the first certificate of a text is not valid at an instant, or null. */
export function dateWarning(cert: string, now: Date): string | null {
  const { validFrom, validTo } = new X509Certificate(cert);
  if (Date.parse(validTo) <= now.getTime()) return `expired at ${new Date(validTo).toISOString()}`;
  return Date.parse(validFrom) > now.getTime()
    ? `is not valid before ${new Date(validFrom).toISOString()}`
    : null;
}
