/**
 * The limits of verifiers, with the source of each number. test/verifiers/limits holds every row true
 * against the library itself.
 * @module
 */
import { KEY_USAGE } from "./certificate.ts";
import type { LeafUsage, Verifier } from "./verifiers.ts";

const { digitalSignature: SIGN, keyEncipherment: ENCIPHER } = KEY_USAGE;
const ANY: LeafUsage = { rsa: 0, ec: 0 };
const SIGNS: LeafUsage = { rsa: SIGN, ec: SIGN };
/** OpenSSL's check_purpose_ssl_server takes either (crypto/x509/v3_purp.c). */
const EITHER: LeafUsage = { rsa: SIGN | ENCIPHER, ec: SIGN | ENCIPHER };

/** OpenSSL's `SSL_set_max_cert_list(3)`, which BoringSSL has kept. */
const OPENSSL_BYTES = 102_400;

/** A verifier without a limit of its own besides octets, to which a row adds what it has. */
const PLAIN = {
  roles: ["client", "server"],
  maxSent: null,
  maxIntermediates: null,
  maxUnsorted: null,
  maxInterspersed: null,
  stopsAtRoot: true,
  refusedSigners: [],
  refusedLeafKeys: { client: [], server: [] },
  leafUsage: { client: SIGNS, server: SIGNS },
  caUsage: "if-present",
  nameConstraints: "applied",
  warnedAs: null,
} as const satisfies Partial<Verifier>;

/** `SSL_CTX_set_verify_depth(3)`: 100 by default. */
const OPENSSL = {
  ...PLAIN,
  maxIntermediates: 100,
  maxBytes: OPENSSL_BYTES,
  leafUsage: { client: EITHER, server: SIGNS },
} as const;

const OPENSSL_SOURCE = "`SSL_CTX_set_verify_depth(3)`, `SSL_set_max_cert_list(3)`";

/**
 * `jdk.tls.maxHandshakeMessageSize`; the builder's path of five, which is used if the chain is not in
 * order, is the default of `PKIXBuilderParameters.setMaxPathLength`.
 */
const JDK = {
  ...PLAIN,
  maxUnsorted: 5,
  maxInterspersed: 5,
  maxBytes: 32_768,
  warnedAs: /\bJDK\b|Java/,
} as const;

export const VERIFIERS: readonly Verifier[] = [
  { ...OPENSSL, name: "openssl", title: "OpenSSL", source: OPENSSL_SOURCE },
  {
    ...OPENSSL,
    name: "python-strict",
    title: "Python's ssl, strict (the default since 3.13)",
    // X509_V_FLAG_X509_STRICT, as ssl.VERIFY_X509_STRICT.
    caUsage: "demanded",
    source: `${OPENSSL_SOURCE}; \`ssl.VERIFY_X509_STRICT\``,
  },
  {
    ...OPENSSL,
    name: "haproxy",
    title: "HAProxy",
    source: `no limit of its own; OpenSSL's: ${OPENSSL_SOURCE}`,
  },
  {
    ...PLAIN,
    name: "envoy",
    title: "Envoy (BoringSSL)",
    // max_verify_depth of its CertificateValidationContext.
    maxIntermediates: 100,
    maxBytes: OPENSSL_BYTES,
    // As a client it speaks TLS 1.2 and the curves X25519 and P-256 by default, and TLS 1.2 has the
    // curves of certificates among them (RFC 8422 §5.1). BoringSSL's default algorithms have neither
    // P-521 nor Ed25519.
    refusedLeafKeys: { client: ["P-384", "P-521", "Ed25519"], server: ["P-521", "Ed25519"] },
    source: "`max_verify_depth`, BoringSSL's `SSL_set_max_cert_list`",
  },
  {
    ...PLAIN,
    name: "go",
    title: "Go",
    // maxChainSignatureChecks of crypto/x509: 100 signatures, that of the leaf included.
    maxIntermediates: 99,
    // maxHandshakeCertificateMsg of crypto/tls since Go 1.22; 65,536 before.
    maxBytes: 262_144,
    leafUsage: { client: ANY, server: ANY },
    source: "`maxChainSignatureChecks` of crypto/x509, `maxHandshakeCertificateMsg` of crypto/tls",
  },
  {
    ...JDK,
    name: "jdk",
    // JDK-8313236 has split the limit, and lowered that of servers. An update of an older JDK may have it.
    title: "JDK 22 to 25 as a server",
    roles: ["server"],
    maxSent: 8,
    source: "`jdk.tls.server.maxInboundCertificateChainLength` (JDK-8313236)",
  },
  {
    ...JDK,
    name: "jdk-17",
    title: "JDK 17 and 21 as a server",
    roles: ["server"],
    maxSent: 10,
    source: "`jdk.tls.maxCertificateChainLength`",
  },
  {
    ...JDK,
    name: "jdk-client",
    title: "JDK 17 to 25 as a client",
    roles: ["client"],
    maxSent: 10,
    source: "`jdk.tls.client.maxInboundCertificateChainLength` (JDK-8313236)",
  },
  {
    ...PLAIN,
    name: "rustls",
    title: "rustls with ring",
    // MAX_SUB_CA_COUNT of rustls-webpki; MAX_HANDSHAKE_SIZE of rustls, with the headers of its records.
    maxIntermediates: 6,
    maxBytes: 65_535,
    refusedSigners: ["P-521"],
    refusedLeafKeys: { client: ["P-521"], server: ["P-521"] },
    // RFC 5280's key usage is not read by rustls-webpki.
    leafUsage: { client: ANY, server: ANY },
    caUsage: "ignored",
    warnedAs: /rustls/,
    source: "`MAX_SUB_CA_COUNT` of rustls-webpki, `MAX_HANDSHAKE_SIZE` of rustls",
  },
  {
    ...PLAIN,
    name: "mbedtls",
    title: "mbed TLS",
    maxIntermediates: 8,
    // A parent is looked for behind its child only (mbedtls_x509_crt_verify).
    maxUnsorted: 0,
    maxBytes: 16_384,
    refusedLeafKeys: { client: ["Ed25519"], server: ["Ed25519"] },
    nameConstraints: "refused",
    warnedAs: /mbed ?TLS/i,
    source: "`MBEDTLS_X509_MAX_INTERMEDIATE_CA`, `MBEDTLS_SSL_IN_CONTENT_LEN`",
  },
  {
    ...PLAIN,
    name: "gnutls",
    title: "GnuTLS",
    // DEFAULT_MAX_VERIFY_DEPTH, which gnutls_certificate_set_verify_limits(3) changes.
    maxSent: 16,
    // gnutls_handshake_set_max_packet_length(3): 128 KB for all messages of a handshake.
    maxBytes: 131_072,
    stopsAtRoot: false,
    warnedAs: /GnuTLS/,
    source:
      "`gnutls_certificate_set_verify_limits(3)`, `gnutls_handshake_set_max_packet_length(3)`",
  },
  {
    ...PLAIN,
    name: "nss",
    title: "NSS",
    // CERT_MAX_CERT_CHAIN: 20 signatures.
    maxIntermediates: 19,
    // MAX_HANDSHAKE_MSG of lib/ssl.
    maxBytes: 131_071,
    refusedLeafKeys: { client: ["Ed25519"], server: ["Ed25519"] },
    // KU_KEY_AGREEMENT_OR_ENCIPHERMENT of a server's leaf (CERT_KeyUsageAndTypeForCertUsage).
    leafUsage: { client: { rsa: ENCIPHER, ec: SIGN }, server: SIGNS },
    source: "`CERT_MAX_CERT_CHAIN`, `MAX_HANDSHAKE_MSG`",
  },
];

/** nginx's `ssl_verify_depth` and `proxy_ssl_verify_depth`: 1 by default. */
const NGINX_DEPTH = 1;

/** nginx with both of its depths at a number. */
export function nginx(depth: number, name = `nginx:${depth}`): Verifier {
  return {
    ...OPENSSL,
    name,
    title: `nginx with a depth of ${depth}`,
    maxIntermediates: depth,
    // As a client it speaks TLS 1.2 by default (proxy_ssl_protocols), where OpenSSL demands it of an
    // EC leaf (ssl_check_srvr_ecc_cert_and_alg).
    leafUsage: { client: { rsa: SIGN | ENCIPHER, ec: SIGN }, server: SIGNS },
    source: "`ssl_verify_depth`, `proxy_ssl_verify_depth`",
  };
}

/**
 * The verifier of a name; `nginx:N` is nginx with a depth of N, `nginx` the one with its default.
 * @returns null if there is none of that name
 */
export function verifierOf(name: string): Verifier | null {
  const [matched, depth] = /^nginx(?::(\d{1,3}))?$/.exec(name) ?? [];
  if (matched === undefined) return VERIFIERS.find((one) => one.name === name) ?? null;
  return nginx(Number(depth ?? NGINX_DEPTH), name);
}
