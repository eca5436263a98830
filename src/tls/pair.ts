/**
 * Certificates and keys as files hold them: whether a TLS server can be run with them.
 * @module
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { FormatError } from "../core/errors.ts";
import { certificatePem, readPem, writePem } from "../core/pem.ts";

/** PEM of a certificate with what goes with it, and of its key. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** A part that cannot be used, and why. Nothing of a file is repeated. */
export interface PairFault {
  readonly of: "cert" | "key";
  readonly message: string;
}

/**
 * Reads a pair out of the texts of two files, which may hold more than that, and may be one. An
 * expired certificate is no fault: it is for its client to refuse, as with Consul.
 */
export function readPair(certText: string, keyText: string): Pair | PairFault {
  const cert = readCertificates(certText);
  if (typeof cert !== "string") return { of: "cert", ...cert };
  const key = readKey(keyText);
  if (typeof key !== "string") return { of: "key", ...key };
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(key);
  } catch {
    return { of: "key", message: "holds a private key that cannot be read" };
  }
  if (!new X509Certificate(cert).checkPrivateKey(privateKey))
    return { of: "key", message: "holds another key than the certificate's" };
  try {
    createSecureContext({ cert, key });
  } catch {
    return { of: "cert", message: "cannot be used for TLS" };
  }
  return { cert, key };
}

/** The certificates of a text, or what is wrong with it. */
export function readCertificates(text: string): string | { readonly message: string } {
  try {
    const certificates = readPem(text).filter(({ label }) => label === "CERTIFICATE");
    if (certificates.length === 0) return { message: "holds no certificate in PEM" };
    for (const { bytes } of certificates) new X509Certificate(bytes);
    return certificates.map(({ bytes }) => certificatePem(bytes)).join("");
  } catch (error) {
    return {
      message:
        error instanceof FormatError
          ? `is broken: ${error.message}`
          : "holds something that is no certificate",
    };
  }
}

function readKey(text: string): string | { readonly message: string } {
  try {
    const found = readPem(text).find(({ label }) => label.endsWith("PRIVATE KEY"));
    if (found === undefined) return { message: "holds no private key in PEM" };
    if (found.label.startsWith("ENCRYPTED") || found.hasHeaders)
      return {
        message:
          "is encrypted, and nobody is there to give its passphrase: decrypt it, for example with openssl pkey",
      };
    return writePem(found.label, found.bytes);
  } catch (error) {
    if (error instanceof FormatError) return { message: `is broken: ${error.message}` };
    throw error;
  }
}

/** How the first certificate of a checked text stands to an instant. */
export function dateWarning(cert: string, now: Date): string | null {
  const { validFrom, validTo } = new X509Certificate(cert);
  if (Date.parse(validTo) <= now.getTime()) return `expired ${new Date(validTo).toISOString()}`;
  return Date.parse(validFrom) > now.getTime()
    ? `is not valid before ${new Date(validFrom).toISOString()}`
    : null;
}
