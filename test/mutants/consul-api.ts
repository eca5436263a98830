/**
 * Guards of security: the agent's listener and Consul's routes on it, which hand out private keys.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const CONSUL_API: readonly Mutant[] = [
  ...guardsOf(
    "src/config/agent-checks.ts",
    [
      "plain HTTP of the agent beyond loopback",
      'if (url.startsWith("http:"))',
      'if (url === "http:")',
      "config/agent-settings",
    ],
    [
      "the first contact of the agent without verification",
      "else if (caFile === null && caPin === null)",
      'else if (url === "")',
      "config/agent-settings",
    ],
    [
      "the loopback addresses of the agent's settings",
      "if (!isLoopback(address.host))",
      'if (address.host === "")',
      "config/agent-settings",
    ],
  ),
  ...guardsOf(
    "src/agent/local-request.ts",
    [
      "the Host of the agent's listener",
      'if (!overSocket && hostRefusal(headers.get("host"), LOOPBACK) !== null)',
      "if (!overSocket && headers === null)",
      "agent/local-request",
      "agent/listener",
    ],
    [
      "the Origin at the agent's listener",
      'if (headers.has("origin"))',
      "if (headers === null)",
      "agent/local-request",
      "agent/consul-authorize",
    ],
    [
      "requests of web pages",
      'if (site !== null && site !== "none")',
      'if (site === "never")',
      "agent/local-request",
    ],
    [
      "requests that a proxy forwarded to the agent",
      "if (names.length > 0 && !isOwn(names))",
      "if (headers === null)",
      "agent/local-request",
    ],
  ),
  ...guardsOf(
    "src/agent/sds/envoy-request.ts",
    [
      "headers that Envoy adds only to requests that it forwards",
      "if (names.some((name) => !ADDED.has(name))) return false;",
      "",
      "agent/listener",
    ],
    [
      "the address of the machine that Envoy's request comes from",
      "octets !== null && (overSocket || ownAddresses().has(hex(octets)))",
      "octets !== null",
      "agent/listener",
    ],
    [
      "an address that is none on Envoy's request",
      "octets !== null && (overSocket || ownAddresses().has(hex(octets)))",
      "overSocket || octets === null || ownAddresses().has(hex(octets))",
      "agent/listener",
    ],
  ),
  ...guardsOf(
    "src/agent/listener.ts",
    [
      "Envoy's headers on routes that Envoy does not ask",
      "mounted?.forEnvoy === true && isEnvoysOwn",
      "isEnvoysOwn",
      "agent/listener",
    ],
    [
      "the loopback address of the agent's listener",
      'if ("host" in listen && !isLoopback(listen.host))',
      'if ("host" in listen && listen.host === "")',
      "agent/listener",
    ],
    [
      "caches that store private keys",
      'response.headers.set("Cache-Control", "no-store");',
      "",
      "agent/listener",
    ],
  ),
  ...guardsOf(
    "src/agent/consul-api/leaf.ts",
    [
      "the right to read a leaf (Q-1)",
      "await this.#requireRight(token, service); const reading",
      "const reading",
      "agent/consul-leaf",
    ],
    [
      "the right to read a leaf at the end of a wait",
      "// A wait may outlast the right. await this.#requireRight(token, service);",
      "",
      "agent/consul-leaf",
    ],
    [
      "a leaf of another datacenter",
      "(datacenter === null || isOfDatacenter(workload.svid, datacenter))",
      "datacenter !== undefined",
      "agent/consul-leaf",
    ],
  ),
  ...guardsOf(
    "src/compose/local-agent.ts",
    [
      "keys on the port of a server with access control",
      'return acl === "off" && isLocal',
      "return acl !== null && isLocal",
      "http/agent-routes",
    ],
    [
      "keys on the port of a server behind a proxy",
      "plainHttp === null && hosts === null",
      "plainHttp !== undefined",
      "http/agent-routes",
    ],
    [
      "keys through an nginx that is not declared",
      "if (endsConnection(call.request.headers))",
      "if (call === null)",
      "http/agent-routes",
    ],
  ),
  ...guardsOf("src/agent/consul-api/served-leaf.ts", [
    "an index that grows with each leaf",
    "const index = Math.max(now, (this.#last?.index ?? 0) + 1);",
    "const index = svid.index;",
    "agent/consul-leaf",
  ]),
  ...guardsOf(
    "src/agent/consul-api/caller-leaves.ts",
    [
      "the caller's token in the key of its leaf",
      "JSON.stringify([service, datacenter?.toLowerCase() ?? null, token])",
      "JSON.stringify([service, datacenter?.toLowerCase() ?? null])",
      "agent/consul-leaf",
    ],
    [
      "the bound of leaves of callers",
      "if (this.#kept.size >= MAX_LEAVES) this.#makeRoom();",
      "",
      "agent/consul-leaf",
    ],
    [
      "the end of a leaf that nobody reads",
      "if (kept.readers === 0 && now - kept.readAt >= IDLE_MS)",
      "if (kept.readers < 0)",
      "agent/consul-leaf",
    ],
  ),
  ...guardsOf("src/agent/consul-api/open-leaf.ts", [
    "the caller's token for the leaf of a caller",
    "credentials: token === null ? null : ofCaller(token),",
    "credentials: null,",
    "agent/consul-leaf",
  ]),
  ...guardsOf(
    "src/agent/consul-api/caller-rights.ts",
    [
      "a 401 that is not of a server without access control",
      "error.status === 401 && error.text === DISABLED",
      "error.status === 401",
      "agent/caller-rights",
    ],
    [
      "a server over plain HTTP that says that access control is off by now",
      "this.#options.areVerified || this.#state?.isOn !== true",
      "true",
      "agent/caller-rights",
    ],
    [
      "the token and the name in the key of an answer",
      "JSON.stringify([token, resource, level, name])",
      "JSON.stringify([resource, level])",
      "agent/caller-rights",
      "agent/consul-leaf",
    ],
    [
      "the end of an answer while the servers are away",
      "if (kept !== undefined && this.#isFresh(kept.at, AWAY_MS))",
      "if (kept !== undefined)",
      "agent/caller-rights",
    ],
    [
      "the end of an answer",
      "const age = this.#now() - at; return age >= 0 && age < forMs;",
      "return forMs > 5000;",
      "agent/caller-rights",
    ],
    [
      "a clock that was set back under an answer",
      "return age >= 0 && age < forMs;",
      "return age < forMs;",
      "agent/caller-rights",
    ],
    [
      "the bound of answers about made-up tokens",
      "denial === null ? [this.#allowed, MAX_ALLOWED] : [this.#denied, MAX_DENIED];",
      "[this.#allowed, MAX_DENIED];",
      "agent/caller-rights",
    ],
    [
      "a secret that a header cannot carry",
      "if (presented !== null && !SECRET.test(presented)) throw tokenUnknown();",
      "",
      "agent/caller-rights",
    ],
  ),
  ...guardsOf(
    "src/agent/consul-api/authorize.ts",
    [
      "the trust domain of a client that asks to connect",
      "if (client.trustDomain !== ours)",
      'if (client.trustDomain === "")',
      "agent/consul-authorize",
    ],
    [
      "the right to ask whether a client may connect",
      "const ageMs = await options.rights.require(secretOf(call.request), right);",
      "const ageMs = right === null ? 0 : null;",
      "agent/consul-authorize",
    ],
  ),
];
