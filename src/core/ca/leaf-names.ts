/**
 * Which DNS and IP names a leaf has: those of its request, if its identity is allowed to have them.
 * @module
 */
import { type Bytes, equal } from "../bytes.ts";
import { RequestError } from "../errors.ts";
import { formatSpiffeId, type LeafId } from "../spiffe/id.ts";
import { constraintFaultsOf } from "../x509/constraint-faults.ts";
import type { CertificateRequest } from "../x509/csr.ts";
import { ipText, type LeafNames, namesLength, type ServerNames } from "../x509/leaf.ts";
import {
  type DnsTemplate,
  expandDnsTemplate,
  type IpRange,
  isInIpRange,
  isLocalAddress,
  isMappedIpv4,
} from "../x509/service-names.ts";
import type { Hints } from "./ca-ports.ts";
import type { Snapshot } from "./snapshot.ts";

/**
 * The most octets of all names of a leaf, encoded: the largest leaf has an RSA-4096 key and signature
 * (`LEAF_BYTES` in chain-size.ts).
 */
const MAX_NAMES_LENGTH = 1264;

const LOOPBACK = [
  Uint8Array.of(127, 0, 0, 1),
  Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
];

/**
 * The labels next to `consul` in names of Consul's DNS that are not datacenters, unless one has such a
 * name (https://developer.hashicorp.com/consul/docs/discover/dns).
 */
const DNS_LOOKUPS = ["service", "virtual", "connect", "ingress", "query", "node", "addr"];

/** Who may have which names. */
export interface NameRules {
  /** The names that the identity of a server is allowed to have besides Consul's own. */
  readonly serverNames: ServerNames;
  /** The names of this CA's servers, which no service is allowed to have. */
  readonly reserved: () => ServerNames;
  readonly templates: readonly DnsTemplate[];
  readonly ranges: readonly IpRange[];
  readonly hints: Pick<Hints, "serviceDnsNames" | "serviceIpRanges">;
}

/** The parts of a request that its names depend on. */
type NamesAsked = Pick<CertificateRequest, "dnsNames" | "ipAddresses">;

/**
 * The subject names of a leaf: its SPIFFE ID, and the DNS and IP names that the request asks for, if
 * the identity is allowed to have them, in lower case and each once. Consul copies all names of the
 * request; its agents, servers and gateways ask for those that they get here.
 * @throws {RequestError} `profile_violation` with the first name that is not allowed.
 */
export function leafNames(id: LeafId, asked: NamesAsked, rules: NameRules): LeafNames {
  const uri = formatSpiffeId(id);
  if (asked.dnsNames.length === 0 && asked.ipAddresses.length === 0)
    return { uri, dnsNames: [], ipAddresses: [] };
  const dnsNames = [...new Set(asked.dnsNames.map((name) => name.toLowerCase()))];
  const ipAddresses = asked.ipAddresses.filter(
    (address, i, all) => all.findIndex((other) => equal(other, address)) === i,
  );
  const refuse = (name: string, why: string) =>
    new RequestError(
      "profile_violation",
      `Cannot sign leaf for ${JSON.stringify(uri)}: it is not allowed to have the ${name}${why}`,
    );
  const dnsFault = dnsFaultOf(id, rules);
  for (const name of dnsNames) {
    const fault = dnsFault(name);
    if (fault !== null) throw refuse(`DNS name ${JSON.stringify(name)}`, fault);
  }
  for (const address of ipAddresses) {
    const fault = ipFaultOf(id, address, rules);
    if (fault !== null) throw refuse(`IP address ${ipText(address)}`, fault);
  }
  const names = { uri, dnsNames, ipAddresses };
  if (namesLength(names) > MAX_NAMES_LENGTH)
    throw new RequestError(
      "profile_violation",
      `Cannot sign leaf for ${JSON.stringify(uri)}: its names have ${namesLength(names)} octets together, and at most ${MAX_NAMES_LENGTH} are allowed`,
    );
  return names;
}

/**
 * A leaf with a name that a CA above it forbids would be refused by every client, or by those that
 * know an older root only.
 * @throws {RequestError} `profile_violation`
 */
export function requireNamesPermitted(
  { uri, dnsNames, ipAddresses }: LeafNames,
  { constrained }: Pick<Snapshot, "constrained">,
): void {
  if (constrained.length === 0 || dnsNames.length + ipAddresses.length === 0) return;
  const [forbidden] = constraintFaultsOf(constrained, { dnsNames, ipAddresses });
  if (forbidden !== undefined)
    throw new RequestError(
      "profile_violation",
      `Cannot sign leaf for ${JSON.stringify(uri)}: ${forbidden}`,
    );
}

/** @returns for a DNS name why it is not allowed, as the rest of a sentence; null if it is. */
function dnsFaultOf(id: LeafId, rules: NameRules): (name: string) => string | null {
  if (id.kind === "service") return serviceDnsFaultOf(id, rules);
  const allowed =
    id.kind === "server" ? [...consulNames(id), ...rules.serverNames.dnsNames] : consulNames(id);
  return (name) => (allowed.includes(name) ? null : "");
}

/** The DNS names in requests of Consul's agents, servers and gateways (agent/auto-config/tls.go, agent/connect/uri_server.go). */
function consulNames(id: Exclude<LeafId, { kind: "service" }>): readonly string[] {
  if (id.kind === "agent") return ["localhost"];
  return [`server.${id.datacenter}.peering.${id.trustDomain}`.toLowerCase()];
}

function serviceDnsFaultOf(
  id: Extract<LeafId, { kind: "service" }>,
  { templates, reserved, hints }: NameRules,
): (name: string) => string | null {
  const { service, namespace, datacenter, trustDomain } = id;
  const values = { service, namespace, datacenter, trust_domain: trustDomain };
  const given = templates
    .map((template) => expandDnsTemplate(template, values))
    .filter((name) => name !== null);
  const isReserved = reservedBy(id, reserved);
  const offered = given.filter((name) => !isReserved(name));
  const allowed =
    offered.length === 0
      ? "it is allowed to have no DNS name"
      : `its DNS names are ${offered.map((name) => JSON.stringify(name)).join(", ")}`;
  return (name) => {
    if (isReserved(name)) return ": no service gets a name of loopback, of an agent or of a server";
    return given.includes(name) ? null : `: ${allowed}; ${hints.serviceDnsNames}`;
  };
}

/**
 * Whether a DNS name, or a name that a wildcard covers, is one of loopback (RFC 6761 §6.3), of Consul's
 * servers and gateways (agent/connect/uri_server.go, tlsutil/generate.go), or of this CA's servers.
 */
function reservedBy(
  { trustDomain, datacenter }: LeafId,
  reserved: () => ServerNames,
): (name: string) => boolean {
  const domains = ["localhost", `peering.${trustDomain}`.toLowerCase()];
  const own = reserved().dnsNames;
  return (name) => {
    const isWildcard = name.startsWith("*.");
    const base = isWildcard ? name.slice(2) : name;
    if (domains.some((domain) => base === domain || base.endsWith(`.${domain}`))) return true;
    const covers = (other: string) =>
      isWildcard ? other.slice(other.indexOf(".") + 1) === base : other === name;
    return own.some(covers) || isConsulServer(isWildcard ? `server.${base}` : name, datacenter);
  };
}

/**
 * Whether a name is `server.<datacenter>.consul`.
 * @param own datacenter of this CA, which may be named like a lookup.
 */
function isConsulServer(name: string, own: string): boolean {
  const [server, datacenter = "", domain, ...rest] = name.split(".");
  return (
    server === "server" &&
    domain === "consul" &&
    rest.length === 0 &&
    (datacenter === own.toLowerCase() || !DNS_LOOKUPS.includes(datacenter))
  );
}

/** @returns why an IP address is not allowed, as the rest of a sentence; null if it is. */
function ipFaultOf(id: LeafId, address: Bytes, rules: NameRules): string | null {
  const among = (list: readonly Bytes[]) => list.some((other) => equal(other, address));
  if (id.kind === "agent") return among(LOOPBACK) ? null : "";
  if (id.kind === "server") return among(rules.serverNames.ipAddresses) ? null : "";
  if (id.kind === "mesh-gateway") return "";
  if (isLocalAddress(address) || isMappedIpv4(address) || among(rules.reserved().ipAddresses))
    return ": no service gets an address of loopback or of a server, or an IPv4 address in the form of IPv6";
  if (rules.ranges.some((range) => isInIpRange(address, range))) return null;
  const ranges = rules.ranges.map(({ text }) => text).join(", ");
  const allowed =
    ranges === "" ? "no service is allowed to have one" : `the allowed ranges are ${ranges}`;
  return `: ${allowed}; ${rules.hints.serviceIpRanges}`;
}
