/**
 * Guards of security: HTTP, TLS and the audit log.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const EDGE: readonly Mutant[] = [
  ...guardsOf("src/http/request-token.ts", [
    "the length of two secrets",
    "let different = a.length ^ b.length;",
    "let different = 0;",
    "http/token",
  ]),
  ...guardsOf("src/http/routes/acl.ts", [
    "the secret of the first token",
    "if (given !== null && sameSecret(given, expected.secret)) return;",
    "return;",
    "http/acl",
  ]),
  ...guardsOf(
    "src/http/routes/acl-authorize.ts",
    [
      "the token that an agent asks for",
      'acl.endpoint("token", async',
      'acl.endpoint("public", async',
      "http/acl-authorize",
    ],
    [
      "the bound of questions about a token",
      "if (body.length > MAX_QUESTIONS)",
      "if (body.length < 0)",
      "http/acl-authorize",
    ],
  ),
  ...guardsOf("src/net/ip.ts", [
    "one client for 64 bits of IPv6",
    "return [0, 1, 2, 3].map",
    "return [0, 1, 2, 3, 4].map",
    "http/limits",
  ]),
  ...guardsOf("src/net/token-bucket.ts", [
    "a clock that was set back",
    "(Math.max(0, now - this.#at) / 1000)",
    "((now - this.#at) / 1000)",
    "http/limits",
  ]),
  ...guardsOf("src/http/limits.ts", [
    "the requests of a client that are in flight",
    "if (client.inFlight >= connectionsPerClient)",
    "if (client.inFlight < 0)",
    "http/limits",
  ]),
  ...guardsOf(
    "src/http/failed-auth-limiter.ts",
    ["the bound of wrong tokens", "if (wait === 0) return error;", "return error;", "http/limits"],
    [
      "the bound of clients that are remembered",
      "if (oldest !== undefined) this.#clients.delete(oldest);",
      "",
      "http/limits",
    ],
  ),
  ...guardsOf("src/http/routes/status.ts", [
    "the right to see the details of readiness",
    'control === null || authorized?.allows("operator", "read") === true',
    'control !== undefined || authorized?.allows("operator", "read") === true',
    "http/readyz",
  ]),
  ...guardsOf("src/net/ip.ts", [
    "one client for 64 bits of IPv6",
    "[0, 1, 2, 3].map",
    "[0, 1, 2, 3, 4].map",
    "http/limits",
  ]),
  ...guardsOf(
    "src/http/client.ts",
    ["headers of a proxy", " && !isForwarded(headers);", ";", "http/readyz"],
    [
      "a name that is not of loopback",
      'if (hostRefusal(headers.get("host"), { hosts: null, loopbackOnly }) !== null) return false;',
      "",
      "http/readyz",
    ],
    [
      "a caller that is not on this machine",
      '|| !isLoopbackAddress(remoteAddress ?? "")) return false;',
      ") return false;",
      "http/readyz",
    ],
  ),
  ...guardsOf("src/http/client.ts", [
    "unknown server names",
    "return hosts.includes(name) ? null :",
    "return hosts.length > 0 ? null :",
    "http/limits",
  ]),
  ...guardsOf("src/http/pipeline.ts", [
    "only an allowed Host is remembered",
    "if (refusal === null) this.#servedHost = host;",
    "this.#servedHost = host;",
    "http/limits",
  ]),
  ...guardsOf(
    "src/http/routes/renew.ts",
    [
      "another identity than the leaf's",
      "if (uri !== identity) throw denied",
      'if (uri === "") throw denied',
      "http/renew",
    ],
    ["the denylist at a renewal", "keys: [spki, leaf.key.spki],", "keys: [spki],", "http/denylist"],
    [
      "the request that a proof is for",
      "!== hashOf(csr)) throw denied",
      '=== "") throw denied',
      "http/renew",
    ],
  ),
  ...guardsOf("src/http/request-body.ts", [
    "the length of a body without Content-Length",
    "if (total > maxBytes) throw tooLarge(maxBytes);",
    "",
    "http/limits",
  ]),
  ...guardsOf(
    "src/telemetry/refusal-tally.ts",
    [
      "one line a second for anonymous callers",
      ", 1, () => record)",
      ", Number.POSITIVE_INFINITY, () => record)",
      "telemetry/audit",
    ],
    [
      "ten lines a second for a token",
      "const FULL_LINES = 10;",
      "const FULL_LINES = 1e9;",
      "telemetry/audit",
    ],
  ),
  ...guardsOf("src/telemetry/audit-reserve.ts", [
    "a reserve that is full",
    "if (line.length > this.left) return false;",
    "",
    "telemetry/audit",
  ]),
  ...guardsOf(
    "src/tls/fallback-certificate.ts",
    [
      "the names of a stored fallback certificate",
      "dnsNames.every((name) => certificate.checkHost(name) !== undefined)",
      "dnsNames.length >= 0",
      "tls/fallback-certificate",
    ],
    [
      "the expiry of a stored fallback certificate",
      "now < Date.parse(certificate.validTo)",
      "now < Number.POSITIVE_INFINITY",
      "tls/fallback-certificate",
    ],
    [
      "a fallback certificate without CA rights",
      "raw(OID.basicConstraints, true, encode(sequence()))",
      "raw(OID.basicConstraints, true, Uint8Array.of(0x30, 3, 1, 1, 0xff))",
      "tls/fallback-certificate",
    ],
  ),
  ...guardsOf(
    "src/tls/own-certificate.ts",
    [
      "a certificate that has expired",
      "now < held.notAfter ? held : null",
      "true ? held : null",
      "tls/fallback-certificate",
    ],
    [
      "another root",
      "if (failed?.root === root && failed.at",
      "if (failed !== null && failed.at",
      "tls/fallback-certificate",
    ],
  ),
  ...guardsOf("src/http/leaf-request.ts", [
    "two services for one leaf",
    "others.findIndex((other) => other !== value)",
    "others.findIndex((other) => other === null)",
    "http/caller-identity",
  ]),
  ...guardsOf(
    "src/http/routes/sign.ts",
    [
      "a token with several identities",
      "if (identities.length > 1)",
      "if (identities.length > 1000)",
      "http/caller-identity",
    ],
    [
      "rights asked again after the queue",
      "    if (!asked) {",
      "    if (!asked || subject !== null) {",
      "http/denylist",
    ],
    [
      "the denylist",
      "if (entry !== null) throw new DeniedError",
      "if (entry === undefined) throw new DeniedError",
      "http/denylist",
    ],
  ),
  ...guardsOf(
    "src/entry/data-platform.ts",
    [
      "a data folder that is a link",
      "if (found.isSymbolicLink()) throw unusable",
      "if (found.isFIFO()) throw unusable",
      "entry/data-platform",
    ],
    [
      "a data folder that others may write",
      "if (isWritable || !readdirSync(path)",
      "if (!readdirSync(path)",
      "entry/data-platform",
    ],
  ),
  ...guardsOf(
    "src/entry/private-file-platform.ts",
    [
      "a path of another user",
      "if (user !== null && uid !== user && uid !== 0)",
      "if (user === -1)",
      "entry/data-platform",
    ],
    [
      "a secret that others may read",
      "if ((mode & refused) !== 0)",
      "if (mode === refused)",
      "entry/data-platform",
    ],
    [
      "a link in the data folder",
      "if (before?.isSymbolicLink() === true)",
      "if (before?.isFIFO() === true)",
      "entry/data-platform",
    ],
  ),
  ...guardsOf(
    "src/cli/connection/exchange.ts",
    [
      "the pin at the connection that sends",
      "if (leafPin !== null && hex(sha256(leaf)) !== leafPin)",
      'if (leafPin === "")',
      "cli/connection",
    ],
    [
      "the verification of a server that a command calls",
      "rejectUnauthorized: verification.verify && verification.leafPin === null",
      "rejectUnauthorized: false",
      "cli/connection",
    ],
  ),
  ...guardsOf(
    "src/cli/connection/verification.ts",
    [
      "the pin of a command's server",
      "if (hex(sha256(leaf)) === pin) return [{ ...SYSTEM, leafPin: pin }];",
      "return [{ ...SYSTEM, verify: false }];",
      "cli/connection",
    ],
    [
      "the pin of a published root",
      "(await publishedRoots(options)).find((der) => hex(sha256(der)) === pin)",
      "(await publishedRoots(options))[0]",
      "cli/connection",
    ],
  ),
  ...guardsOf("src/cli/connection/address.ts", [
    "a pin for a server without TLS",
    'if (pin !== null && server.socketPath === null && server.url.protocol === "http:")',
    'if (pin === "")',
    "cli/connection",
  ]),
  ...guardsOf(
    "src/cli/recover/server.ts",
    [
      "the key of the CA to a server without TLS",
      "if (!isLoopback(url))",
      "if (socketPath !== null)",
      "cli/recover",
    ],
    [
      "the key of the CA to a server that is not verified",
      "if (!verify)",
      "if (socketPath !== null)",
      "cli/recover",
    ],
    [
      "the fingerprint in the data folder as the pin",
      "options: { ...options, pin: found.pin },",
      "options: { ...options, verify: false },",
      "cli/recover",
    ],
  ),
  ...guardsOf(
    "src/cli/commands/recover.ts",
    ["the deletion of the key that was taken", "deleteKeyFile(root.files.key);", "", "cli/recover"],
    [
      "a valid root that a recovery would replace",
      "if (isHealthy(situation) && !isForced)",
      "if (isHealthy(situation) && isForced)",
      "cli/recover",
    ],
  ),
  ...guardsOf("src/cli/recover/root-files.ts", [
    "the mode of the key file of a recovery",
    "text: keyPem, mode: 0o600",
    "text: keyPem, mode: 0o644",
    "cli/recover",
  ]),
  ...guardsOf("src/tls/certificates.ts", [
    "the stored fingerprint of one worker's certificate",
    "const isShared = !this.#hasWorkers || this.#fallback === null || issued === null;",
    "const isShared = true;",
    "tls/fallback-certificate",
  ]),
  ...guardsOf(
    "src/http/routes/intermediates.ts",
    [
      "the anonymous token and intermediates",
      "if (authorized?.anonymous === true)",
      'if (authorized?.accessorId === "")',
      "http/intermediates",
    ],
    [
      "a denied key of another datacenter",
      "requireNotDenylisted(control.denylistEntryOf(subject));",
      "void subject;",
      "http/intermediates",
    ],
  ),
  ...guardsOf(
    "src/core/x509/ca-request.ts",
    [
      "the one name of another datacenter's CA",
      "if (request.uri !== uri || request.dnsNames.length > 0 || request.ipAddresses.length > 0)",
      'if (request.uri === "")',
      "http/intermediates",
    ],
    [
      "the proof of possession of another datacenter's CA",
      "await verifyProof(request);",
      "",
      "http/intermediates",
    ],
    [
      "the extensions of another datacenter's CA",
      "if (odd !== undefined) throw",
      'if (odd === "") throw',
      "http/intermediates",
    ],
  ),
  ...guardsOf("src/core/ca/intermediates.ts", [
    "the subject of a CA of this datacenter",
    "if (names.some(({ value }) => folded(value) === folded(commonName)))",
    "if (names.length < 0)",
    "http/intermediates",
  ]),
  ...guardsOf("src/core/ca/signer.ts", [
    "a leaf with the key of another datacenter's CA",
    "requireKeyOfNoDatacenter(request, snapshot);",
    "",
    "http/intermediates",
  ]),
  ...guardsOf("src/store/state-document.ts", [
    "the state of another datacenter",
    "if (this.#datacenter !== null) requireOwn(state, this.#datacenter);",
    "",
    "core/ca/schemas",
  ]),
  ...guardsOf("src/seal/envelope.ts", [
    "the datacenter of an encrypted key",
    '["meshca", 2, clusterId, datacenter, purpose, id]',
    '["meshca", 2, clusterId, purpose, id]',
    "seal/envelope",
  ]),
];
