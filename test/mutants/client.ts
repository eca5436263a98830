/**
 * Guards of security: what a client checks of peers, leaves, roots and its cache.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const CLIENT: readonly Mutant[] = [
  ...guardsOf(
    "src/client/spiffe/verify-peer.ts",
    [
      "a second URI",
      "uri === undefined || more.length > 0",
      "uri === undefined",
      "client/verify-peer",
    ],
    [
      "another trust domain",
      "if (id.trustDomain !== trustDomain)",
      "if (false)",
      "client/verify-peer",
    ],
    ["the ID of a trust domain", "if (id.isTrustDomain)", "if (false)", "client/verify-peer"],
    ["a CA certificate as a leaf", "if (leaf.isCa)", "if (false)", "client/verify-peer"],
    [
      "a key usage without signing",
      "(leaf.keyUsage & KEY_USAGE.digitalSignature) === 0",
      "leaf.keyUsage === 0",
      "client/verify-peer",
    ],
    [
      "a key usage of CA certificates",
      "(leaf.keyUsage & (KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign)) !== 0",
      "leaf.keyUsage === 0",
      "client/verify-peer",
    ],
    [
      "the segments of an ID",
      'for (const segment of segments) requireSegment(segment, "path segment");',
      "",
      "client/verify-peer",
    ],
    [
      "the IDs that are expected",
      "if (expectedIds !== null && !expectedIds.includes(spiffeId))",
      "if (false)",
      "client/verify-peer",
    ],
    [
      "a peer without a path",
      "if (path === null)",
      "if (path?.length === 0)",
      "client/verify-peer",
    ],
  ),
  ...guardsOf(
    "src/client/spiffe/path.ts",
    [
      "a leaf that is not in force",
      "if (!isUsable(leaf, at) || intermediates",
      "if (intermediates",
      "client/trust-path",
    ],
    [
      "the number of certificates",
      " || intermediates.length > MAX_INTERMEDIATES) return null;",
      ") return null;",
      "client/trust-path",
    ],
    [
      "an intermediate that is not in force",
      "intermediates.filter((candidate) => isUsable(candidate, at))",
      "intermediates",
      "client/trust-path",
    ],
    [
      "a root that is not in force",
      "roots.filter((candidate) => isUsable(candidate, at))",
      "roots",
      "client/trust-path",
      "client/verify-peer",
    ],
    [
      "name constraints",
      " && allowsNames(whole)) return whole;",
      ") return whole;",
      "client/trust-path",
    ],
    ["the length of a path", "if (path.length + 2 > MAX_PATH)", "if (false)", "client/trust-path"],
    [
      "a path length constraint",
      "if (issuer.pathLength !== null && issuer.pathLength < intermediatesIn(path)) return false;",
      "",
      "client/trust-path",
    ],
    [
      "the number of signatures",
      "search.signatures <= MAX_SIGNATURES && isSignedBy(subject, issuer)",
      "isSignedBy(subject, issuer)",
      "client/trust-path",
    ],
    [
      "a signature",
      "search.signatures <= MAX_SIGNATURES && isSignedBy(subject, issuer)",
      "search.signatures <= MAX_SIGNATURES",
      "client/trust-path",
      "client/verify-peer",
    ],
    [
      "an issuer of another serial number",
      " || !namesIssuer(subject, issuer)) return false;",
      ") return false;",
      "client/trust-path",
    ],
    [
      "a critical extension that nobody knows",
      "(!critical || PROCESSED.includes(oid))",
      "true",
      "client/trust-path",
      "client/verify-peer",
    ],
    [
      "an extension that cannot be read",
      "extensionFault(extension) === null && ",
      "",
      "client/trust-path",
    ],
    [
      "name constraints that cannot be read",
      "return readOrNull(() => readNameConstraints(value)) !== null;",
      "return true;",
      "client/trust-path",
    ],
  ),
  ...guardsOf(
    "src/core/x509/chain.ts",
    [
      "an issuer that is not a CA",
      "if (!issuer.isCa || (issuer.keyUsage",
      "if ((issuer.keyUsage",
      "client/trust-path",
    ],
    [
      "an issuer that does not sign certificates",
      "if (!issuer.isCa || (issuer.keyUsage !== null && (issuer.keyUsage & KEY_USAGE.keyCertSign) === 0))",
      "if (!issuer.isCa)",
      "client/trust-path",
    ],
  ),
  ...guardsOf(
    "src/core/x509/name-constraints.ts",
    [
      "an excluded DNS name in upper case",
      "const name = spelled.toLowerCase();",
      "const name = spelled;",
      "client/trust-path",
    ],
    [
      "a URI without a host",
      "host === null || isDnsWithin(subtree, host)",
      "host !== null && isDnsWithin(subtree, host)",
      "client/trust-path",
    ],
    ["the port of a URI", '.replace(/:\\d*$/, "")', "", "client/trust-path"],
  ),
  ...guardsOf("src/core/x509/constraint-faults.ts", [
    "names that are not compared",
    "some((tag) => constrainsTag(constraints, tag))",
    "some(() => false)",
    "client/trust-path",
  ]),
  ...guardsOf(
    "src/client/node/file-cache.ts",
    [
      "the mode of the folder",
      "await mkdir(folder, { mode: 0o700, recursive: true });",
      "await mkdir(folder, { mode: 0o755, recursive: true });",
      "client/cache",
    ],
    ["a folder that is a link", "if (found.isSymbolicLink())", "if (false)", "client/cache"],
    [
      "a folder of another user",
      "if (user !== null && found.uid !== user)",
      "if (false)",
      "client/cache",
    ],
    [
      "a folder that is open to others",
      "if ((found.mode & OTHERS) !== 0) throw refuse(",
      "if (false) throw refuse(",
      "client/cache",
    ],
    [
      "keys of a process that was killed",
      "for (const draft of drafts) await rm(join(folder, draft), { force: true });",
      "",
      "client/cache",
    ],
    ["a file that is a link", "if (!before.isFile())", "if (before.isDirectory())", "client/cache"],
    [
      "a file that is open to others",
      'if ((found.mode & OTHERS) !== 0) return ignore("it is open to other users");',
      "",
      "client/cache",
    ],
    ["the size of a file", "if (found.size > MAX_BYTES)", "if (false)", "client/cache"],
    ["the mode of a file", 'open(draft, "wx", 0o600)', 'open(draft, "wx", 0o644)', "client/cache"],
  ),
  ...guardsOf(
    "src/client/cached-entries.ts",
    [
      "an entry of another identity",
      "if (key !== leafKey(identity))",
      "if (false)",
      "client/cache",
    ],
    ["the key of another leaf", "await requireKey(privateKey, leaf.key.spki);", "", "client/cache"],
  ),
  ...guardsOf("src/client/held-leaf.ts", [
    "a cached leaf under no published root",
    'if (rootId === null) throw new FormatError("it verifies under no published root");',
    "",
    "client/cache",
  ]),
  ...guardsOf(
    "src/client/roots-source.ts",
    [
      "the trust domain of cached roots",
      "this.#trustDomain = cached.trustDomain;",
      "",
      "client/cache",
    ],
    [
      "a server's roots before those of the cache",
      "await Promise.race([first, clock.sleep(CACHE_WAIT_MS, limit.signal)]);",
      "",
      "client/cache",
    ],
  ),
  ...guardsOf("src/agent/connection.ts", [
    "a cache that others can replace",
    "await new FolderCheck(cacheDir, rules).run();",
    "",
    "agent/agent-cache",
  ]),
];
