/**
 * Guards of security: other datacenters.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const DATACENTERS: readonly Mutant[] = [
  ...guardsOf(
    "src/config/datacenters.ts",
    [
      "a secondary without the name of its primary",
      "if (name === undefined)\n    for",
      "if (false)\n    for",
      "config/datacenters",
    ],
    [
      "a secondary without servers of its primary",
      'servers.servers.length === 0 && !faults.has("MESHCA_PRIMARY_SERVERS")',
      "false",
      "config/datacenters",
    ],
    [
      "a server that cannot be verified",
      "if (!canVerify && !isLoopback(url))",
      "if (false)",
      "config/datacenters",
    ],
    [
      "a CA file next to a pin",
      "if (caFile !== null && pin !== null)",
      "if (false)",
      "config/datacenters",
    ],
    ["a CA file or pin in a Worker", "if (value !== null)", "if (false)", "config/datacenters"],
  ),
  ...guardsOf("src/http/routes/datacenter-status.ts", [
    "what is known of other datacenters, for operators only",
    "if (maySeeDetails(call, options)) return;",
    "return;",
    "http/datacenter-status",
  ]),
  ...guardsOf("src/config/named-files.ts", [
    "CA files of other datacenters",
    'add("MESHCA_DATACENTERS", path)',
    "void path",
    "config/datacenters",
  ]),
  ...guardsOf(
    "src/http/forwarding.ts",
    [
      "a second hop",
      "if (headers.has(FORWARDED_HEADER)) return null;",
      "",
      "datacenters/other-datacenters",
    ],
    [
      "a datacenter that is not configured",
      "!others.names.includes(name))",
      "false)",
      "datacenters/other-datacenters",
    ],
    [
      "a token on a public route",
      'const hasToken = methods[method]?.access !== "public";',
      "const hasToken = true;",
      "datacenters/other-datacenters",
    ],
    [
      "a token that would be another header",
      'if (token !== null && !TOKEN.test(token)) throw new DeniedError("token_unknown", UNKNOWN_TOKEN);',
      "",
      "datacenters/other-datacenters",
    ],
    [
      "the token in the query",
      '!["token", "dc", "datacenter"]',
      '!["dc", "datacenter"]',
      "datacenters/other-datacenters",
    ],
    [
      "blocking queries that wait elsewhere",
      "isBlocking ? this.#options.watchers.hold(client) : this.#enter()",
      "isBlocking ? () => undefined : this.#enter()",
      "datacenters/other-datacenters",
    ],
    [
      "requests in flight",
      "if (this.#inFlight >= MAX_IN_FLIGHT)",
      "if (false)",
      "datacenters/other-datacenters",
    ],
    [
      "the length of a body",
      "await bodies.text(request, maxBody)",
      "await request.text()",
      "datacenters/other-datacenters",
    ],
    [
      "a caller that left",
      "? [request.signal, watchers.closing]",
      "? [watchers.closing]",
      "datacenters/other-datacenters",
    ],
    [
      "a page for a browser",
      "if (!MEDIA_TYPES.includes(type))",
      "if (false)",
      "datacenters/other-datacenters",
    ],
    [
      "an invalid token of the other datacenter",
      "if (hadToken && response.status === 403 && response.body.startsWith(UNKNOWN_TOKEN))",
      "if (false)",
      "datacenters/other-datacenters",
    ],
  ),
  ...guardsOf(
    "src/core/ca/follow-checks.ts",
    [
      "the trust domain that is followed",
      "if (listing.trustDomain === trustDomain && listing.clusterId === clusterId) return;",
      "if (listing.trustDomain === trustDomain || listing.clusterId !== clusterId) return;",
      "datacenters/refused-roots",
    ],
    [
      "roots that went back",
      "if (listing.activeRootId === active.id || !isKnown) return;",
      "if (isKnown || !isKnown) return;",
      "datacenters/refused-roots",
    ],
    [
      "an expired root of the primary",
      "if (!inForce(active.certificate, now))",
      "if (false)",
      "datacenters/refused-roots",
      "datacenters/expired",
    ],
    [
      "an abandoned root of the primary",
      "if (active.abandoned) throw refuse(",
      "if (false) throw refuse(",
      "datacenters/refused-roots",
    ],
    [
      "a root of the primary that another CA signed",
      "if (!certificate.isCa || !(await isSignedBy(certificate, certificate)))",
      "if (!certificate.isCa)",
      "datacenters/refused-roots",
    ],
    [
      "leaves under each root of the primary",
      "if (first === undefined) return;",
      "if (first !== null) return;",
      "datacenters/refused-roots",
    ],
    [
      "the shortest life of an intermediate",
      "if (issuer.notAfter.getTime() - now.getTime() < MIN_LIFE_MS)",
      "if (false)",
      "datacenters/refused-intermediates",
    ],
  ),
  ...guardsOf(
    "src/compose/primary.ts",
    [
      "the datacenter of the primary's servers",
      "pin: caPin,\n      datacenter,",
      "pin: caPin,\n      datacenter: null,",
      "datacenters/hostile-servers",
    ],
    [
      "the size of a listing",
      "maxBytes: MAX_BYTES.roots,",
      "maxBytes: MAX_BYTES.roots * 8,",
      "datacenters/hostile-answers",
    ],
  ),
  ...guardsOf("src/core/ca/follower.ts", [
    "following within seconds after hours of failures",
    "this.step.retryWithin(RETRY_MS);",
    "void RETRY_MS;",
    "datacenters/expired",
  ]),
  ...guardsOf(
    "src/core/x509/intermediate.ts",
    [
      "the key of an intermediate",
      "if (!equal(certificate.key.spki, key.spki))",
      "if (false)",
      "datacenters/refused-intermediates",
    ],
    [
      "the subject of an intermediate",
      "if (equal(first.subject, first.issuer))",
      "if (false)",
      "datacenters/refused-intermediates",
    ],
    [
      "pathLen above an intermediate",
      "pathLength !== null && pathLength < below))",
      "pathLength !== null && pathLength < below - 1))",
      "datacenters/refused-intermediates",
    ],
    [
      "what verifiers require of an intermediate",
      "if (faults.length === 0) faults.push(...verifierFaults(path, cluster));",
      "void verifierFaults;",
      "datacenters/refused-intermediates",
    ],
  ),
  ...guardsOf("src/http/client.ts", [
    "loopback of another datacenter's server",
    "|x-meshca-forwarded)",
    ")",
    "http/readyz",
  ]),
  ...guardsOf(
    "src/core/ca/intermediates.ts",
    [
      "an intermediate for a key of ours",
      "requireKeyIsNotOurs(request, snapshot);",
      "",
      "http/intermediate-refusals",
    ],
    [
      "a secondary that signs an intermediate",
      "if (primary !== null || provider.crossSigner === null)",
      "if (provider.crossSigner === null && primary === null)",
      "http/intermediate-refusals",
    ],
    [
      "the number of intermediates",
      "if (alive.length >= MAX_INTERMEDIATES)",
      "if (false)",
      "http/intermediate-refusals",
    ],
    [
      "the share of one datacenter in the intermediates",
      "requireShare(alive, caller.accessor);",
      "void requireShare;",
      "http/intermediate-refusals",
    ],
    [
      "the case of a subject",
      'text.trim().replaceAll(/\\s+/g, " ").toLowerCase()',
      'text.trim().replaceAll(/\\s+/g, " ")',
      "http/intermediate-refusals",
    ],
    [
      "the end of a denial of another datacenter's key",
      "return ends.length === 0 ? null : new Date(Math.max(...ends));",
      "return ends.length === 0 ? null : new Date(Math.min(...ends));",
      "http/intermediate-refusals",
    ],
  ),
  ...guardsOf(
    "src/http/routes/intermediates.ts",
    [
      "the right to intermediates",
      'endpoint("intermediate:write", (call)',
      'endpoint("operator:read", (call)',
      "http/intermediates",
    ],
    [
      "a token that was revoked while another change ran",
      "const caller = await control.authorize(secretOf(call.request));",
      "const caller = call.authorized ?? (await control.authorize(secretOf(call.request)));",
      "http/intermediate-refusals",
    ],
    [
      "the lifetime of an intermediate",
      "if (service !== null || ttlMs !== null)",
      "if (service !== null)",
      "http/intermediates",
    ],
  ),
  ...guardsOf(
    "src/core/x509/ca-request.ts",
    [
      "the kind of key of another datacenter's CA",
      'if (request.key.type === "ed25519")',
      "if (false)",
      "http/intermediates",
    ],
    [
      "the subject of another datacenter's CA",
      'const isOneName = subject.length === 1 && name?.type === "CN";',
      'const isOneName = name?.type !== "";',
      "http/intermediates",
    ],
  ),
  ...guardsOf("src/acl/denylist.ts", [
    "a denial of another datacenter's identity",
    "if (datacenter !== ours.datacenter)",
    "if (false)",
    "acl/denylist",
    "http/intermediate-refusals",
  ]),
  ...guardsOf(
    "src/http/pipeline.ts",
    [
      "limits of forwarded requests for roots",
      "route.unlimited !== true || forward !== null",
      "route.unlimited !== true",
      "datacenters/other-datacenters",
    ],
    [
      "forwarded requests without access control",
      "if (control === null) requireNotForwarded(exchange);",
      "",
      "datacenters/other-datacenters",
    ],
  ),
  ...guardsOf(
    "src/compose/other-datacenters.ts",
    [
      "the datacenter of a server",
      "datacenter: name,\n      isVerifiedByPlatform",
      "datacenter: null,\n      isVerifiedByPlatform",
      "datacenters/verification",
    ],
    [
      "a change on a connection that was used before",
      "new ServerConnection(url, transport, trust), request)",
      "new ServerConnection(url, this.#transport, trust), request)",
      "datacenters/other-datacenters",
    ],
    [
      "a redirect",
      "if (status >= 300 && status < 400 && status !== 304)",
      "if (false)",
      "datacenters/other-datacenters",
    ],
    [
      "addresses in texts for callers",
      "faults.map(({ reason }, i)",
      "faults.map(({ address: reason }, i)",
      "datacenters/other-datacenters",
    ],
    [
      "a change that may have been received",
      'if (request.method !== "GET" && !isNotMade(error))',
      "if (false)",
      "datacenters/other-datacenters",
    ],
  ),
  ...guardsOf(
    "src/client/fetch-transport.ts",
    [
      "a redirect over fetch",
      'redirect: "manual"',
      'redirect: "follow"',
      "datacenters/other-datacenters",
    ],
    [
      "the size of a body over fetch",
      "if (total > maxBytes)",
      "if (false)",
      "datacenters/other-datacenters",
    ],
  ),
  ...guardsOf("src/core/ca/followed-roots.ts", [
    "a root that leaves of a secondary need",
    "!listed.has(root.id) && isDead(root, policy, time)",
    "!listed.has(root.id)",
    "datacenters/check",
  ]),
  ...guardsOf("src/core/ca/snapshot.ts", [
    "cross-signed certificates behind the intermediate of a secondary",
    'chainPem: active.intermediates.map(pemOf).join("")',
    'chainPem: active.intermediates.slice(0, 1).map(pemOf).join("")',
    "datacenters/check",
  ]),
];
