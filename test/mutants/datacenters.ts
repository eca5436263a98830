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
  ...guardsOf("src/http/pipeline.ts", [
    "limits of forwarded requests for roots",
    "route.unlimited !== true || forward !== null",
    "route.unlimited !== true",
    "datacenters/other-datacenters",
  ]),
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
