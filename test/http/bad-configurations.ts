/**
 * Configurations that must be refused, each with the text of its refusal.
 * @module
 */
import { openssl } from "../fakes/ca.ts";
import { makeRoot, rootExtensions, type SuppliedRootOptions } from "../fixtures/supplied-root.ts";

export interface BadConfiguration {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly says: string | RegExp;
}

const configured = (says: string) => `error configuring provider: ${says}`;
const decoded = (...faults: readonly string[]) =>
  configured(
    `error decoding config: ${faults.length} error(s) decoding:\n\n${faults.map((fault) => `* ${fault}`).join("\n")}`,
  );
const LEAF_SHORT = "leaf cert TTL must be greater or equal than 1h0m0s";
const EC_BITS = "EC key length must be one of (256, 384, 521) bits";
const RSA_BITS = "RSA key length must be 2048 or 4096 bits";
const KNOWN =
  "known are LeafCertTTL, IntermediateCertTTL, RootCertTTL, RootAutoRotate, PrivateKeyType, PrivateKeyBits, CSRMaxPerSecond, CSRMaxConcurrent, ServiceDNSNames, ServiceIPRanges, PrivateKey, RootCert, RotationPeriod, ClusterID";

/** Every rule of the built-in provider, and the forms of its values. */
export const BAD_VALUES: readonly BadConfiguration[] = [
  {
    name: "a root without its key",
    config: { RootCert: "abc" },
    says: configured("must provide a private key when providing a root cert"),
  },
  {
    name: "roots that live shorter than intermediates",
    config: { RootCertTTL: "8759h" },
    says: configured(
      "root cert TTL is set and is not greater than intermediate cert ttl. root cert ttl: 8759h0m0s, intermediate cert ttl: 8760h0m0s",
    ),
  },
  {
    name: "leaves of a millisecond less than an hour",
    config: { LeafCertTTL: "59m59.999s" },
    says: configured(LEAF_SHORT),
  },
  { name: "leaves of no life", config: { LeafCertTTL: "0" }, says: configured(LEAF_SHORT) },
  {
    name: "leaves of negative life",
    config: { LeafCertTTL: "-72h" },
    says: configured(LEAF_SHORT),
  },
  {
    name: "leaves of 3600 nanoseconds",
    config: { LeafCertTTL: 3600 },
    says: configured(LEAF_SHORT),
  },
  {
    name: "leaves of more than a year",
    config: { LeafCertTTL: "8760h1s", IntermediateCertTTL: "30000h" },
    says: configured("leaf cert TTL must be less than 8760h0m0s"),
  },
  {
    name: "intermediates of less than three hours",
    config: { LeafCertTTL: "1h", IntermediateCertTTL: "2h59m59s" },
    says: configured("Intermediate Cert TTL must be greater or equal than 3h"),
  },
  {
    name: "intermediates of less than three leaves",
    config: { LeafCertTTL: "72h", IntermediateCertTTL: "215h59m" },
    says: configured(
      "Intermediate Cert TTL must be greater or equal than 3 * LeafCertTTL (>=216h0m0s).",
    ),
  },
  ...[224, 255, 2048, -256].map((bits) => ({
    name: `EC keys of ${bits} bits`,
    config: { PrivateKeyBits: bits },
    says: configured(EC_BITS),
  })),
  ...[256, 1024, 3072, 16_384].map((bits) => ({
    name: `RSA keys of ${bits} bits`,
    config: { PrivateKeyType: "rsa", PrivateKeyBits: bits },
    says: configured(RSA_BITS),
  })),
  {
    name: "RSA keys without their size",
    config: { PrivateKeyType: "rsa" },
    says: configured(RSA_BITS),
  },
  ...["dsa", "EC", "ed25519"].map((type) => ({
    name: `keys of the type ${type}`,
    config: { PrivateKeyType: type },
    says: configured("private key type must be either 'ec' or 'rsa'"),
  })),
  {
    name: "a duration of no form",
    config: { LeafCertTTL: "abc" },
    says: decoded(`error decoding 'LeafCertTTL': time: invalid duration "abc"`),
  },
  {
    name: "a duration in days",
    config: { LeafCertTTL: "3d" },
    says: decoded(`error decoding 'LeafCertTTL': time: unknown unit "d" in duration "3d"`),
  },
  {
    name: "a duration without a unit",
    config: { LeafCertTTL: "72" },
    says: decoded(`error decoding 'LeafCertTTL': time: missing unit in duration "72"`),
  },
  {
    name: "a list for a duration",
    config: { LeafCertTTL: ["1h"] },
    says: decoded(
      "'LeafCertTTL' expected type 'time.Duration', got unconvertible type '[]interface {}', value: '[1h]'",
    ),
  },
  {
    name: "a map for a number",
    config: { PrivateKeyBits: { b: 1, a: null } },
    says: decoded(
      "'PrivateKeyBits' expected type 'int', got unconvertible type 'map[string]interface {}', value: 'map[a:<nil> b:1]'",
    ),
  },
  {
    name: "words for numbers, all at once",
    config: { PrivateKeyBits: "abc", CSRMaxPerSecond: "x", CSRMaxConcurrent: "1.5" },
    says: decoded(
      `cannot parse 'PrivateKeyBits' as int: strconv.ParseInt: parsing "abc": invalid syntax`,
      `cannot parse 'CSRMaxPerSecond' as float: strconv.ParseFloat: parsing "x": invalid syntax`,
      `cannot parse 'CSRMaxConcurrent' as int: strconv.ParseInt: parsing "1.5": invalid syntax`,
    ),
  },
  {
    name: "several rules broken at once",
    config: { LeafCertTTL: "30m", RootCertTTL: "1h", PrivateKeyType: "dsa" },
    says: configured(
      `root cert TTL is set and is not greater than intermediate cert ttl. root cert ttl: 1h0m0s, intermediate cert ttl: 8760h0m0s; ${LEAF_SHORT}; private key type must be either 'ec' or 'rsa'`,
    ),
  },
  {
    name: "templates of DNS names, with every fault at once",
    config: {
      ServiceDNSNames: [
        "web.example.com",
        "{service}.{cluster}",
        "",
        "{service}.example.com.",
        "*.{service}",
        "{service}.a",
        "b.{service}",
        "{service}.a",
      ],
      ServiceIPRanges: ["10.0.0.1/8", "127.0.0.0/8", "10.0.0.0", "10.0.0.0/33", "::ffff:0:0/96"],
    },
    says: configured(
      [
        'ServiceDNSNames: "{service}.a" is there more than once',
        'ServiceDNSNames: "web.example.com" must have {service} once, as a label of its own between dots',
        'ServiceDNSNames: "{service}.{cluster}" has the unknown placeholder {cluster}; known are {service}, {namespace}, {datacenter}, {trust_domain}',
        'ServiceDNSNames: "" is empty',
        'ServiceDNSNames: "{service}.example.com." ends with a dot, which a DNS name in a certificate does not have',
        'ServiceDNSNames: "*.{service}" must have at least two labels after "*."',
        'ServiceDNSNames: "{service}.a" and "b.{service}" could give two services the same name; put {service} at the same place in both, or give them different labels',
        'ServiceIPRanges: "10.0.0.1/8" has bits of the address behind its prefix, which must be 0',
        'ServiceIPRanges: "127.0.0.0/8" is loopback, of which no service gets an address',
        'ServiceIPRanges: "10.0.0.0" must be a range of addresses as ADDRESS/BITS, for example 10.0.0.0/8',
        'ServiceIPRanges: "10.0.0.0/33" has a prefix of more than 32 bits',
        'ServiceIPRanges: "::ffff:0:0/96" is IPv4 mapped into IPv6; write the range as IPv4',
      ].join("; "),
    ),
  },
  {
    name: "templates that clash by the trust domain of this CA",
    config: { ServiceDNSNames: ["{service}.{trust_domain}", "x.{service}.consul"] },
    says: configured(
      'ServiceDNSNames: "{service}.{trust_domain}" and "x.{service}.consul" could give two services the same name; put {service} at the same place in both, or give them different labels',
    ),
  },
  {
    name: "too many templates and ranges",
    config: {
      ServiceDNSNames: Array.from({ length: 17 }, (_, i) => `{service}.x${i}`),
      ServiceIPRanges: Array.from({ length: 17 }, (_, i) => `10.${i}.0.0/16`),
    },
    says: configured(
      "ServiceDNSNames: has 17 entries, and at most 16 are allowed; ServiceIPRanges: has 17 entries, and at most 16 are allowed",
    ),
  },
  {
    name: "values that are no template and no range",
    config: { ServiceDNSNames: true, ServiceIPRanges: "" },
    says: configured(
      'ServiceDNSNames: "1" must have {service} once, as a label of its own between dots; ServiceIPRanges: "" must be a range of addresses as ADDRESS/BITS, for example 10.0.0.0/8',
    ),
  },
  {
    name: "lists of lists and of maps",
    config: { ServiceDNSNames: [["{service}"]], ServiceIPRanges: { a: 1 } },
    says: decoded(
      "'ServiceDNSNames[0]' expected type 'string', got unconvertible type '[]interface {}'",
      "'ServiceIPRanges[0]' expected type 'string', got unconvertible type 'map[string]interface {}'",
    ),
  },
  {
    name: "a misspelt key",
    config: { LeafCertTtls: "72h" },
    says: configured('unknown key "LeafCertTtls" in Config, did you mean LeafCertTTL?'),
  },
  {
    name: "a key in snake_case",
    config: { leaf_cert_ttl: "72h" },
    says: configured('unknown key "leaf_cert_ttl" in Config, did you mean LeafCertTTL?'),
  },
  {
    name: "a key of another provider",
    config: { Address: "x" },
    says: configured(`unknown key "Address" in Config, ${KNOWN}`),
  },
  {
    name: "a kept key if none is stored",
    config: { PrivateKey: "hidden" },
    says: /PrivateKey is "hidden", .* none is stored: send the value itself$/,
  },
];

const KEY =
  "error generating CA root certificate: error generating CA: error parsing private key: ";

/** Unusable keys and roots, for a trust domain. */
export function badRoots(trustDomain: string): BadConfiguration[] {
  const good = makeRoot(trustDomain);
  const second = makeRoot(trustDomain);
  const config = (key: string, certificate: string) => ({ PrivateKey: key, RootCert: certificate });
  const made = (
    name: string,
    says: string | RegExp,
    options: SuppliedRootOptions,
  ): BadConfiguration => {
    const root = makeRoot(trustDomain, options);
    return { name, config: config(root.key, root.certificate), says };
  };
  const without = (what: string, ...instead: readonly string[]) => ({
    extensions: [
      ...rootExtensions(trustDomain).filter((line) => !line.startsWith(what)),
      ...instead,
    ],
  });
  const with_ = (...more: readonly string[]) => ({
    extensions: [...rootExtensions(trustDomain), ...more],
  });
  const encrypted = (...args: readonly string[]) =>
    openssl([...args, "-passout", "pass:x"], good.key);
  const other = "99999999-2222-3333-4444-555555555555.consul";
  const forgedAt = good.certificate.lastIndexOf("\n-----END") - 8;
  const forged =
    good.certificate.slice(0, forgedAt) +
    (good.certificate[forgedAt] === "A" ? "B" : "A") +
    good.certificate.slice(forgedAt + 1);
  return [
    {
      name: "a key that is not PEM",
      config: { PrivateKey: "abc" },
      says: `${KEY}no PEM-encoded data found`,
    },
    {
      name: "a key in PEM that is not base64",
      config: { PrivateKey: good.key.replace(/\n..../, "\n!!!!") },
      says: /error parsing private key: PEM block PRIVATE KEY is not base64$/,
    },
    {
      name: "a certificate for a key",
      config: { PrivateKey: good.certificate },
      says: `${KEY}unknown PEM block type for signing key: CERTIFICATE`,
    },
    {
      name: "two keys",
      config: { PrivateKey: good.key + second.key },
      says: /private key must be exactly one PEM block/,
    },
    {
      name: "a truncated key",
      config: { PrivateKey: good.key.replace(/\n(.{20}).*\n/, "\n$1\n") },
      says: /^error generating CA root certificate: error generating CA: error parsing private key: /,
    },
    {
      name: "an encrypted key",
      config: { PrivateKey: encrypted("pkcs8", "-topk8") },
      says: `${KEY}private key is encrypted: decrypt it first, for example with openssl pkey`,
    },
    {
      name: "a key encrypted in the old way",
      config: { PrivateKey: encrypted("ec", "-aes128") },
      says: `${KEY}private key is encrypted: decrypt it first, for example with openssl pkey`,
    },
    {
      name: "a key on P-224",
      config: {
        PrivateKey: openssl([
          "genpkey",
          "-algorithm",
          "EC",
          "-pkeyopt",
          "ec_paramgen_curve:secp224r1",
        ]),
      },
      says: `${KEY}private key must be EC on P-256, P-384 or P-521, or RSA of 2048, 3072 or 4096 bits`,
    },
    {
      name: "an Ed25519 key",
      config: { PrivateKey: openssl(["genpkey", "-algorithm", "ed25519"]) },
      says: `${KEY}private key must be EC on P-256, P-384 or P-521, or RSA of 2048, 3072 or 4096 bits`,
    },
    {
      name: "an RSA key of 1024 bits",
      config: {
        PrivateKey: openssl(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]),
      },
      says: `${KEY}private key must be EC on P-256, P-384 or P-521, or RSA of 2048, 3072 or 4096 bits`,
    },
    {
      name: "a key that is a number",
      config: { PrivateKey: 1 },
      says: `${KEY}no PEM-encoded data found`,
    },
    {
      name: "a key that is a list",
      config: { PrivateKey: [good.key] },
      says: decoded("'PrivateKey' expected type 'string', got unconvertible type '[]interface {}'"),
    },
    {
      name: "a root that is not PEM",
      config: config(good.key, "abc"),
      says: /^error parsing root certificate: /,
    },
    {
      name: "a key for a root",
      config: config(good.key, good.key),
      says: /^error parsing root certificate: /,
    },
    {
      name: "the root of another key",
      config: config(good.key, second.certificate),
      says: "PrivateKey is not the key of RootCert",
    },
    made(
      "a root that is not a CA",
      /RootCert is not a CA certificate/,
      without("basicConstraints", "basicConstraints=critical,CA:FALSE"),
    ),
    made(
      "a root that may not sign certificates",
      /RootCert is not allowed to sign certificates: its key usage lacks keyCertSign/,
      without("keyUsage", "keyUsage=critical,digitalSignature"),
    ),
    made(
      "a root without a key usage",
      "RootCert has no key usage: make it again with keyUsage=critical,keyCertSign,cRLSign",
      without("keyUsage"),
    ),
    made(
      "a root with a path length",
      /^RootCert has a path length constraint of \d+, and 6 CA certificates must be allowed below it, since it cross-signs the roots/,
      without("basicConstraints", "basicConstraints=critical,CA:TRUE,pathlen:0"),
    ),
    made(
      "a root without a key identifier",
      "RootCert has no subject key identifier",
      without("subjectKeyIdentifier", "subjectKeyIdentifier=none"),
    ),
    made(
      "a root without a URI",
      `RootCert must have exactly the URI spiffe://${trustDomain} in its subject alternative name; it has none`,
      without("subjectAltName"),
    ),
    made(
      "a root of another trust domain",
      `RootCert must have exactly the URI spiffe://${trustDomain} in its subject alternative name; it has spiffe://${other}`,
      without("subjectAltName", `subjectAltName=URI:spiffe://${other}`),
    ),
    made(
      "a root with a critical extension of its own",
      /RootCert has the critical extension 1\.2\.3\.4, which not every verifier processes/,
      with_("1.2.3.4=critical,ASN1:NULL"),
    ),
    made(
      "a root with name constraints",
      /RootCert has name constraints that do not permit the DNS name localhost/,
      with_("nameConstraints=critical,permitted;DNS:example.com"),
    ),
    made("a root that has expired", /^RootCert expired on 2020-01-02T00:00:00\.000Z$/, {
      validity: ["20200101000000Z", "20200102000000Z"],
    }),
    made(
      "a root that is not valid yet",
      /^RootCert is not valid before 2999-01-01T00:00:00\.000Z$/,
      {
        validity: ["29990101000000Z", "29991231000000Z"],
      },
    ),
    {
      name: "a root with a wrong signature",
      config: config(good.key, forged),
      says: "RootCert is not signed by its own key",
    },
    made(
      "a root with several faults",
      /^RootCert is not a CA certificate; .*RootCert has no subject key identifier; RootCert must have exactly the URI/,
      { extensions: ["keyUsage=critical,keyCertSign", "subjectKeyIdentifier=none"] },
    ),
  ];
}
