/**
 * What is known of verifiers: the limits that a path within RFC 5280 can still exceed. One table, with
 * the source of each number.
 * @module
 */
import type { Certificate } from "../../core/x509/certificate.ts";
import { caWarnings } from "../../core/x509/usable-ca.ts";

export interface Verifier {
  /** As it is named in `--like`. */
  readonly name: string;
  /** Certificates that a peer may send, the leaf included; null: no bound below 100. */
  readonly maxSent: number | null;
  /** CA certificates between the leaf and the root of the path; null: no bound below 100. */
  readonly maxIntermediates: number | null;
  /** Octets of the Certificate message that it accepts; null: no bound below 100 KB. */
  readonly maxBytes: number | null;
  /** By which words it is named in the warnings of a CA certificate, or null. */
  readonly warnedAs: RegExp | null;
}

/** Octets that TLS 1.3 and 1.2 libraries accept of a message by default: one record (RFC 8446 §5.1). */
const RECORD = 16_384;

/**
 * Sources: OpenSSL's `SSL_CTX_set_verify_depth(3)` (100) and `SSL_set_max_cert_list(3)` (100 KB); Go's
 * crypto/x509 (100 signatures) and crypto/tls (65,536 octets a message); the JDK's
 * `jdk.tls.server.maxInboundCertificateChainLength` (8), `jdk.tls.client...` (10) and
 * `jdk.tls.maxHandshakeMessageSize` (32,768); rustls-webpki (6 intermediates); mbed TLS'
 * MBEDTLS_X509_MAX_INTERMEDIATE_CA (8) and MBEDTLS_SSL_IN_CONTENT_LEN (16,384).
 */
export const VERIFIERS: readonly Verifier[] = [
  ...[
    { name: "openssl", maxSent: null, maxIntermediates: 100, maxBytes: 102_400, warnedAs: null },
    { name: "go", maxSent: null, maxIntermediates: null, maxBytes: 65_536, warnedAs: null },
    { name: "jdk", maxSent: 8, maxIntermediates: null, maxBytes: 32_768, warnedAs: /\bJDK\b|Java/ },
    {
      name: "jdk-client",
      maxSent: 10,
      maxIntermediates: null,
      maxBytes: 32_768,
      warnedAs: /\bJDK\b/,
    },
    { name: "rustls", maxSent: null, maxIntermediates: 6, maxBytes: 65_536, warnedAs: /rustls/ },
    {
      name: "mbedtls",
      maxSent: null,
      maxIntermediates: 8,
      maxBytes: RECORD,
      warnedAs: /mbed ?TLS/i,
    },
    { name: "gnutls", maxSent: null, maxIntermediates: null, maxBytes: null, warnedAs: /GnuTLS/ },
  ],
];

/**
 * The verifier of a name; `nginx:N` is OpenSSL with `ssl_verify_depth N`, 1 without a number.
 * @returns null if there is none of that name
 */
export function verifierOf(name: string): Verifier | null {
  const [, depth] = /^nginx(?::(\d{1,3}))?$/.exec(name) ?? [];
  if (!name.startsWith("nginx")) return VERIFIERS.find((one) => one.name === name) ?? null;
  if (!/^nginx(?::\d{1,3})?$/.test(name)) return null;
  return {
    name,
    maxSent: null,
    maxIntermediates: Number(depth ?? 1),
    maxBytes: 102_400,
    warnedAs: null,
  };
}

/**
 * What a verifier has against a path that verifies.
 * @param path leaf first, root last. @param sent what the peer sends, the leaf included
 * @returns each fault as a sentence
 */
export function verifierFaults(
  { name, maxSent, maxIntermediates, maxBytes, warnedAs }: Verifier,
  path: readonly Certificate[],
  sent: readonly Certificate[],
): string[] {
  const faults: string[] = [];
  const between = Math.max(0, path.length - 2);
  if (maxIntermediates !== null && between > maxIntermediates)
    faults.push(
      `${name} accepts ${maxIntermediates} CA certificates between leaf and root, and there are ${between}`,
    );
  if (maxSent !== null && sent.length > maxSent)
    faults.push(`${name} accepts ${maxSent} certificates of a peer, and ${sent.length} are sent`);
  // Each certificate has a length of three octets and extensions of two (RFC 8446 §4.4.2).
  const bytes = sent.reduce((sum, { der }) => sum + der.length + 5, 0);
  if (maxBytes !== null && bytes > maxBytes)
    faults.push(`${name} accepts certificates of ${maxBytes} octets, and there are ${bytes}`);
  if (warnedAs !== null)
    for (const certificate of path.slice(1))
      for (const warning of caWarnings(certificate).filter((text) => warnedAs.test(text)))
        faults.push(`Certificate ${certificate.id} ${warning}`);
  return faults;
}
