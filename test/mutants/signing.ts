/**
 * Guards of security: the signing of a leaf, and the record that decides which leaves are ours.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const SIGNING: readonly Mutant[] = [
  ...guardsOf(
    "src/core/ca/signer.ts",
    [
      "the present issuer's own key in a request",
      "if ((provider !== null && isOurs(provider.issuer)) || state.roots.some(isOfRoot))",
      "if (state.roots.some(isOfRoot))",
      "core/ca/signer",
    ],
    [
      "the key of an earlier issuer in a request",
      "isOurs(certificate) || leafIssuers.some((issuer) => isOurs(issuer.certificate))",
      "isOurs(certificate)",
      "core/ca/signer",
    ],
    [
      "the key of a root in a request",
      "isOurs(certificate) || leafIssuers.some",
      "leafIssuers.some",
      "core/ca/signer",
    ],
    [
      "authorization by the canonical ID",
      "progress.uri = formatSpiffeId(named);",
      "",
      "http/denylist",
    ],
    [
      "the denylist asked again after the queue",
      "if (permittedAgain !== undefined) await permittedAgain;",
      "",
      "http/denylist",
    ],
    [
      "a CA that is not valid yet",
      "if (notBefore > now)",
      "if (notBefore > notAfter)",
      "core/ca/not-yet-valid",
    ],
    [
      "a leaf that ends before it begins",
      "if (notBefore < notAfter) return;",
      "return;",
      "core/ca/signer",
    ],
    ["the proof of possession", "await verifyProof(request);", "", "core/ca/signer"],
  ),
  ...guardsOf(
    "src/core/ca/signer.ts",
    [
      "names checked again after the queue",
      "snapshot === checked.checkedWith ?",
      "snapshot !== null ?",
      "core/ca/signer",
    ],
    [
      "the bounds of a requested lifetime",
      "requireTtl(ttlMs, leafTtlOf(snapshot), snapshot.provider.leafLimits);",
      "void ttlMs;",
      "http/sign",
    ],
  ),
  ...guardsOf(
    "src/core/ca/leaf-names.ts",
    [
      "the templates of DNS names",
      "return given.includes(name) ? null : `",
      'return name !== "" ? null : `',
      "core/ca/leaf-names",
    ],
    [
      "reserved DNS names",
      "if (isReserved(name)) return",
      'if (name === "") return',
      "core/ca/leaf-names",
    ],
    [
      "names that a wildcard covers",
      'isWildcard ? other.slice(other.indexOf(".") + 1) === base : other === name',
      "other === name",
      "core/ca/leaf-names",
    ],
    [
      "the names of Consul's servers",
      'server === "server" &&',
      'server === "" &&',
      "core/ca/leaf-names",
    ],
    [
      "the names of Consul's servers in a datacenter named like a lookup",
      "datacenter === own.toLowerCase() || ",
      "",
      "core/ca/leaf-names",
    ],
    [
      "names of servers and gateways",
      "if (domains.some((domain)",
      'if (["localhost"].some((domain)',
      "core/ca/leaf-names",
    ],
    [
      "addresses of loopback",
      "isLocalAddress(address) || isMappedIpv4(address)",
      "isMappedIpv4(address)",
      "core/ca/leaf-names",
    ],
    ["IPv4 addresses in the form of IPv6", " || isMappedIpv4(address)", "", "core/ca/leaf-names"],
    ["addresses of servers", " || among(rules.reserved().ipAddresses)", "", "core/ca/leaf-names"],
    [
      "the size of all names",
      "if (namesLength(names) > MAX_NAMES_LENGTH)",
      "if (namesLength(names) < 0)",
      "core/ca/leaf-names",
    ],
    [
      "name constraints on names of leaves",
      "if (forbidden !== undefined)",
      'if (forbidden === "")',
      "providers/consul/supplied-root",
    ],
  ),
  ...guardsOf(
    "src/core/ca/leaf-life.ts",
    [
      "the longest validity of a renewal",
      "Math.min(configured, longestRenewal(renewed, backdateMs))",
      "Math.min(configured, longestRenewal(null, backdateMs))",
      "core/ca/leaf-life",
    ],
    [
      "that an earlier issuer certificate of the same key does not prolong a renewal",
      "left >= 0 && left <= CUT_MS",
      "left <= CUT_MS",
      "core/ca/leaf-life",
    ],
  ),
  ...guardsOf(
    "src/core/x509/service-names.ts",
    [
      "values that are one DNS label",
      ": isDnsLabel(value)))\n        return null;",
      ": true))\n        return null;",
      "core/x509/service-names",
    ],
    [
      "two templates that clash",
      'return typeof first !== "string" || first !== second;',
      'return typeof first === "string" && first !== second;',
      "core/x509/service-names",
    ],
    [
      "names that end with a number",
      ' || NUMBER.test(labels.at(-1) ?? "")) return null;',
      ") return null;",
      "core/x509/service-names",
    ],
  ),
  ...guardsOf("src/core/ca/plan-change.ts", [
    "templates that clash by the trust domain",
    "if (clash === null) return parsed;",
    "if (clash === null || parsed !== null) return parsed;",
    "http/bad-configuration",
  ]),
  ...guardsOf("src/config/reserved-names.ts", [
    "the names of MESHCA_HOSTS",
    "...(hosts ?? []),",
    "",
    "config/reserved-names",
  ]),
  ...guardsOf("providers/vault/leaf.ts", [
    "a leaf of Vault that is valid for longer than requested",
    'faults.push("it is valid for longer than requested");',
    "",
    "vault/names",
  ]),
  ...guardsOf("src/core/spiffe/id.ts", [
    "the name of a service that is not in the CSR",
    'requireSegment(service, "service")',
    "service",
    "http/caller-identity",
  ]),
  ...guardsOf(
    "src/core/ca/leaf-identity.ts",
    ["the default partition and namespace", "  requireDefaultScope(id);\n", "", "core/ca/signer"],
    [
      "a service that is not the one of the CSR",
      'if (service !== null && !(id.kind === "service" && id.service === service))',
      'if (service !== null && id.kind === "service" && id.service === "")',
      "http/caller-identity",
    ],
    [
      "the length of an identity that is not in the CSR",
      "if (formatSpiffeId(id).length > MAX_URI_LENGTH)",
      "if (formatSpiffeId(id) === null)",
      "http/caller-identity",
    ],
    [
      "the datacenter of an identity",
      "if (id.datacenter !== datacenter)",
      "if (id.datacenter === null)",
      "core/ca/signer",
    ],
    [
      "the trust domain of an identity",
      "if (id.trustDomain !== trustDomain)",
      "if (id.trustDomain === null)",
      "core/ca/signer",
    ],
  ),
  ...guardsOf(
    "src/core/ca/renewal-check.ts",
    [
      "roots that were abandoned",
      "(!root.abandoned || root.lost === true) && inForce(root.certificate, now)",
      "inForce(root.certificate, now)",
      "datacenters/hostile-promotions",
    ],
    [
      "a leaf that a lost key signed",
      "!root.abandoned || !sameAuthority(certificate, root.certificate)",
      "true",
      "datacenters/hostile-promotions",
    ],
    [
      "the end of an issuer's leaves",
      "leaf.notAfter.getTime() > latestExpiry(issuer)",
      "false",
      "core/ca/renewal-check",
    ],
    [
      "the signature of a leaf",
      "if (await isSignedBy(leaf, certificate)) return",
      "return",
      "core/ca/renewal-check",
    ],
    [
      "a CA certificate in place of a leaf",
      "leaf.isCa || leaf.uris.length !== 1",
      "leaf.uris.length !== 1",
      "core/ca/renewal-check",
    ],
    [
      "a leaf that is not valid yet",
      "if (leaf.notBefore > now)",
      "if (leaf.notBefore > leaf.notAfter)",
      "core/ca/renewal-check",
    ],
    [
      "a leaf that has expired",
      "if (leaf.notAfter <= now)",
      "if (leaf.notAfter <= leaf.notBefore)",
      "core/ca/renewal-check",
    ],
  ),
  ...guardsOf(
    "src/core/ca/leaf-issuers.ts",
    [
      "the end of a replaced issuer's leaves",
      "leavesUntil: issuer.leavesUntil ?? leavesUntil(",
      "leavesUntil: issuer.leavesUntil && leavesUntil(",
      "core/ca/issuers",
    ],
    [
      "the later end of one issuer in two states",
      "toSorted((a, b) => end(a) - end(b))",
      "toSorted((a, b) => end(b) - end(a))",
      "core/ca/resolve",
    ],
  ),
  ...guardsOf(
    "src/core/ca/leaf-issuers.ts",
    [
      "leaves of retired roots, which lived longer",
      "Math.max(config.leafTtlMs, ...state.roots.map(({ leafTtlMaxMs }) => leafTtlMaxMs))",
      "config.leafTtlMs",
      "http/denylist",
    ],
    [
      "replicas that do not know of a denial yet",
      "return longest + unaware +",
      "return longest +",
      "http/denylist",
    ],
  ),
];
