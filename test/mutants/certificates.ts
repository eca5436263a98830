/**
 * Guards of security: identities, requests and certificates.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const CERTIFICATES: readonly Mutant[] = [
  ...guardsOf(
    "src/core/spiffe/id.ts",
    ["percent-encoding", 'if (path.includes("%"))', 'if (path.includes("%%"))', "core/spiffe/id"],
    [
      "dot segments",
      'if (segment === "." || segment === "..")',
      'if (segment === "...")',
      "core/spiffe/id",
    ],
    [
      "characters that SPIFFE does not have",
      "if (SEGMENT.test(segment)) return segment;",
      "return segment;",
      "core/spiffe/id",
    ],
  ),
  ...guardsOf(
    "src/core/spiffe/id.ts",
    [
      "the default partition spelt out",
      "if (partition === DEFAULT_PARTITION)",
      'if (partition === "")',
      "core/spiffe/id",
    ],
    [
      "a partition in upper case",
      "if (partition !== partition.toLowerCase())",
      'if (partition === "")',
      "core/spiffe/id",
    ],
    [
      "a namespace that is not the default one",
      "if (inDefaultPartition && id.namespace === DEFAULT_NAMESPACE) return;",
      "if (inDefaultPartition) return;",
      "core/spiffe/id",
    ],
    [
      "a partition of an agent or a gateway",
      "  if (!inDefaultPartition)\n",
      '  if (id.partition === "")\n',
      "core/spiffe/id",
    ],
  ),
  ...guardsOf(
    "src/core/x509/name-constraints.ts",
    [
      "excluded names",
      "isOutside || without.some((subtree) => isExcluded(subtree, name))",
      "isOutside",
      "core/x509/name-constraints",
    ],
    [
      "permitted names",
      "within.length > 0 && !within.some",
      "within.length < 0 && !within.some",
      "core/x509/name-constraints",
    ],
    [
      "a host of a URI without its subdomains",
      ": host === text;\n}\n\n/** As Go",
      ": host.endsWith(text);\n}\n\n/** As Go",
      "core/x509/name-constraints",
    ],
    [
      "the address range",
      "equal(octets.slice(0, length).map(masked), address.map(masked))",
      "octets.length > 0",
      "core/x509/name-constraints",
    ],
    [
      "a mask of separate parts",
      "if (!/^1*0*$/.test(bits))",
      'if (bits === "")',
      "core/x509/name-constraints",
    ],
  ),
  ...guardsOf(
    "src/core/x509/usable-ca.ts",
    [
      "the path length of a root",
      "pathLength === null || pathLength >= casBelow",
      "true",
      "core/x509/usable-ca",
    ],
    [
      "an authority key identifier with another serial number",
      "if (serial !== null && !equal(serial, issuer.serial))",
      "if (serial !== null && serial.length > 20)",
      "core/x509/usable-ca",
    ],
    [
      "an unknown critical extension",
      "if (!critical || PROCESSED_BY_ALL.includes(oid) || isAccepted) return [];",
      "return [];",
      "core/x509/usable-ca",
    ],
    [
      "basic constraints that are not critical",
      "extensions.some(({ oid, critical }) => critical && oid === OID.basicConstraints)",
      "extensions.some(({ oid }) => oid === OID.basicConstraints)",
      "core/x509/usable-ca",
    ],
    [
      "an extended key usage that leaves do not have",
      "extKeyUsage === null || [OID.clientAuth",
      "extKeyUsage !== undefined || [OID.clientAuth",
      "core/x509/usable-ca",
    ],
  ),
  ...guardsOf(
    "src/core/x509/csr.ts",
    [
      "one URI in a request",
      "if (uris.length > 1 || (uri === null && !mayLackUri)) throw",
      "if (uri === null && !mayLackUri) throw",
      "core/x509/csr",
    ],
    [
      "a request without a URI where one is needed",
      "if (uris.length > 1 || (uri === null && !mayLackUri)) throw",
      "if (uris.length > 1) throw",
      "core/x509/csr",
    ],
    [
      "e-mail addresses in a request",
      "if (emails > 0) throw",
      "if (emails < 0) throw",
      "core/x509/csr",
    ],
    [
      "the length of a URI",
      "if (uri !== null && uri.length > MAX_URI_LENGTH)",
      "if (uri !== null && uri.length < 0)",
      "core/ca/signer",
    ],
    [
      "a signature algorithm that does not fit the key",
      "if (scheme.type !== key.type) throw",
      "if (key.type === null) throw",
      "core/x509/csr",
    ],
  ),
  ...guardsOf("src/core/ca/leaf-names.ts", [
    "IP addresses that an identity may not have",
    "if (fault !== null) throw refuse(`IP address",
    "if (fault === undefined) throw refuse(`IP address",
    "core/ca/signer",
  ]),
];
