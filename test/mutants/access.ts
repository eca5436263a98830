/**
 * Guards of security: access control.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const ACCESS: readonly Mutant[] = [
  ...guardsOf(
    "src/acl/token-resolver.ts",
    [
      "a role with an invalid MAC",
      "this.#replica.faulty.has(`role/",
      "this.#replica.faulty.has(`none/",
      "acl/roles",
    ],
    [
      "a templated policy of another datacenter",
      "isIn(this.datacenter, datacenters),\n    );\n    const { compiled }",
      "isIn(this.datacenter, []),\n    );\n    const { compiled }",
      "acl/roles",
    ],
  ),
  ...guardsOf("src/acl/cache.ts", [
    "a role's change in what was compiled",
    'if (kind === "policy" || kind === "role")',
    'if (kind === "policy")',
    "acl/roles",
  ]),
  ...guardsOf("src/acl/templated-policies.ts", [
    "the variable of a templated policy",
    "if (!isIdentityName(name))",
    'if (name === "")',
    "acl/roles",
  ]),
  ...guardsOf(
    "src/acl/login.ts",
    [
      "the name of a role that a login gets",
      "|| !IS_BOUND_NAME[bindType](name))",
      ")",
      "acl/login",
    ],
    ["the variable that a login gets", "      requireBound(policy);\n", "", "acl/login"],
  ),
  ...guardsOf("src/acl/record-codec.ts", [
    "fields of schema 3 in older records",
    "(schema < 3 ? ADDED_IN_3 : [])",
    "[]",
    "acl/roles",
  ]),
  ...guardsOf("src/core/state.ts", [
    "the schema of a state with roles",
    "if (access?.recordSchema !== undefined) return 5;",
    "",
    "core/ca/schemas",
  ]),
  ...guardsOf(
    "src/acl/denylist.ts",
    [
      "a denial of another trust domain",
      "if (trustDomain !== ours.trustDomain)",
      'if (trustDomain === "")',
      "acl/denylist",
    ],
    [
      "a key identifier of the wrong length",
      "if (!KEY_ID_LENGTHS.includes(octets.length))",
      "if (octets.length === 0)",
      "acl/denylist",
    ],
    [
      "leading zeros of a serial number",
      "const significant = octets.slice(first);",
      "const significant = octets;",
      "acl/denylist",
    ],
    [
      "the key's other identifiers",
      "for (const spki of keys) for (const keyId of keyIdsOf(spki))",
      "for (const keyId of [] as string[])",
      "acl/denylist",
    ],
    [
      "denylist entries of whole segments",
      "at >= 0; at = spiffeId",
      "at < 0; at = spiffeId",
      "acl/denylist",
    ],
  ),
  ...guardsOf(
    "src/acl/record-set.ts",
    [
      "a set older than the last-seen one",
      "if (set.index < seen.index)",
      "if (set.index < 0)",
      "acl/record-set",
    ],
    [
      "another write under the same index",
      "if (set.index === seen.index) return",
      "if (set.index < 0) return",
      "acl/record-set",
    ],
    ["the digest under the set's MAC", "digest.toString(16)]", '""]', "acl/record-set"],
    [
      "a record's version in the digest",
      "kind, id, version, unique,",
      "kind, id, unique,",
      "acl/record-set",
    ],
    [
      "a stop mark that is not ours",
      "return (await key.verifyMac(stopInput(index, tip, reason, by, at), mac)) ?",
      'return mac !== "" ?',
      "acl/record-set",
    ],
  ),
  ...guardsOf(
    "src/acl/trust.ts",
    [
      "the MAC over all records",
      "if (!decoded.authentic)",
      "if (decoded.set.index < 0)",
      "redis/access-set",
    ],
    [
      "a set that lost writes",
      "if (lost !== null) return { refused:",
      'if (lost === "") return { refused:',
      "redis/access-set",
    ],
    [
      "the key that the CA document names",
      "return recorded === null || recorded.keyId === key.opened.id;",
      "return true;",
      "acl/replica",
    ],
    [
      "a missing set document",
      "if (changes.set === null) return { refused:",
      "if (changes.set === null) return { set: null };\n    if (decoded === null) return { refused:",
      "redis/access-set",
    ],
  ),
  ...guardsOf(
    "src/acl/login-origin.ts",
    [
      "an auth method that was made again",
      "if (method === undefined || createIndex < method.createIndex) return true;",
      "if (method === undefined) return true;",
      "acl/login-origin",
    ],
    [
      "the id of a token's auth method",
      "login.methodId !== method.value.id || method.version < login.methodVersion",
      "method.version < login.methodVersion",
      "acl/login-origin",
    ],
    [
      "the version of a token's auth method",
      "login.methodId !== method.value.id || method.version < login.methodVersion",
      "login.methodId !== method.value.id",
      "acl/login-origin",
    ],
    [
      "binding rules of the method before",
      "&& rule.createIndex >= method.createIndex",
      "",
      "acl/login-origin",
    ],
  ),
  ...guardsOf(
    "src/acl/login-quota.ts",
    [
      "the bound of a subject's tokens",
      "if (live.length >= this.#limit) throw",
      "if (live.length < 0) throw",
      "acl/login-quota",
    ],
    [
      "the bound among logins that ran at once",
      "return earlier.length < this.#limit ? null",
      "return earlier.length >= 0 ? null",
      "acl/login-quota",
    ],
  ),
  ...guardsOf(
    "src/acl/login-token.ts",
    [
      "the issuer",
      "if (settings.issuer !== null && claims.iss !== settings.issuer)",
      'if (settings.issuer === "")',
      "acl/login",
    ],
    [
      "the audience",
      "!audiences.some((audience) => settings.audiences.includes(audience))",
      "audiences.length === 0",
      "acl/login",
    ],
    [
      "the signature algorithm",
      "if (alg === undefined || !algorithms.includes(alg))",
      "if (alg === undefined)",
      "acl/login",
    ],
    [
      "an expiry that is not a date",
      "v.maxValue(LAST_SECOND)",
      "v.maxValue(Number.MAX_VALUE)",
      "acl/login",
    ],
    ["a token's end", "if (at >= expires + leeway) throw", "if (at < 0) throw", "acl/login"],
    [
      "one use for each issuer of a jti",
      "JSON.stringify([issuer, audiences.toSorted(), jti])",
      "JSON.stringify([audiences.toSorted(), jti])",
      "acl/login",
    ],
    [
      "one use of a token without an issuer",
      "const issuer = iss ?? {",
      "const issuer = iss ?? { by: Math.random(),",
      "acl/login",
    ],
  ),
  ...guardsOf(
    "src/acl/renewal-token.ts",
    ["the audience of a proof", "audience, currentDate: now,", "currentDate: now,", "http/renew"],
    ["the age of a proof", "maxTokenAge: MAX_AGE,", "", "http/renew"],
    [
      "a proof from the future",
      "clockTolerance: LEEWAY,",
      "clockTolerance: Number.MAX_SAFE_INTEGER,",
      "http/renew",
    ],
    [
      "the signature of a proof",
      "({ payload } = await jwtVerify(jwt, key, {",
      'payload = JSON.parse(atob((jwt.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/")));\n    void (async () => jwtVerify(jwt, key, {',
      "http/renew",
    ],
  ),
  ...guardsOf(
    "src/acl/token-resolver.ts",
    [
      "a token that was made again with another secret",
      "entry?.hash !== before.entry.hash",
      "entry === undefined",
      "acl/token-resolver",
    ],
    [
      "identities of the anonymous token",
      "if (this.anonymous) return [];",
      "",
      "acl/token-resolver",
    ],
    [
      "service identities of other datacenters",
      ".filter(({ datacenters }) => isIn(this.#datacenter, datacenters))",
      "",
      "acl/token-resolver",
      "http/caller-identity",
    ],
    [
      "node identities of other datacenters",
      ".filter(({ datacenter }) => datacenter === this.#datacenter)",
      "",
      "acl/token-resolver",
    ],
    [
      "tokens, which allowing by default does not open",
      'this.#defaultPolicy === "allow" && resource !== "acl"',
      'this.#defaultPolicy === "allow"',
      "acl/token-resolver",
    ],
  ),
  ...guardsOf(
    "src/net/guarded-fetch.ts",
    [
      "addresses other than public ones",
      "!addresses.every(isPublicAddress)",
      "addresses.length === 0",
      "acl/jwks",
    ],
    [
      "hosts not on the allowlist",
      "if (!isListed(hosts, url) && !isListed(privateHosts, url))",
      'if (url.host === "")',
      "acl/jwks",
    ],
    [
      "redirects",
      'redirect: "manual", addresses, });',
      'redirect: "follow" as "manual", addresses, });',
      "acl/jwks",
    ],
  ),
  ...guardsOf("src/net/bounded.ts", [
    "the length of a response",
    "if (total > maxBytes) throw",
    "if (total < 0) throw",
    "acl/jwks",
  ]),
  ...guardsOf(
    "src/acl/jwks.ts",
    [
      "the issuer that a discovered configuration names",
      "if (found.output.issuer !== issuer) throw",
      'if (found.output.issuer === "") throw',
      "acl/jwks",
    ],
    [
      "the pause before a key set is asked for again",
      "if (cached !== undefined && (inCooldown || ",
      "if (cached !== undefined && (",
      "acl/jwks",
    ],
  ),
  ...guardsOf("src/acl/denylist-records.ts", [
    "a denylist that is not loaded",
    "this.#replica.requireLoaded();",
    "",
    "redis/access-set",
  ]),
  ...guardsOf("src/acl/denylist-cache.ts", [
    "a denylist that was never kept",
    "if (text === null) throw unreadable();",
    "if (text === null) return [];",
    "redis/away-at-start",
  ]),
];
