/**
 * SPIFFE IDs (SPIFFE-ID §2) and the kinds of identity that their paths name in a Consul mesh
 * (Consul's agent/connect/uri.go). An ID has one canonical spelling; all decisions use it.
 * @module
 */
import { RequestError } from "../errors.ts";

/** SPIFFE-ID §2.3: at most 2048 octets in all, 255 of them trust domain. */
const MAX_LENGTH = 2048;
const MAX_TRUST_DOMAIN = 255;

/** SPIFFE-ID §2.1 has lower case only; upper case is lowered, as in hosts (RFC 3986 §3.2.2). */
const HOST = /^[A-Za-z0-9._-]+$/;
/** The characters of any URI's path (RFC 3986 §3.3). Each segment is checked against SPIFFE-ID later. */
const PATH = /^[A-Za-z0-9._~!$&'()*+,;=:@%/-]*$/;
/** SPIFFE-ID §2.2: letters, digits, dots, dashes and underscores; no percent-encoding. */
const SEGMENT = /^[A-Za-z0-9._-]+$/;

interface SpiffeUri {
  /** Lower case (SPIFFE-ID §2.1). */
  readonly trustDomain: string;
  /** Path segments, unchecked. Empty for a trust domain's own ID. */
  readonly segments: readonly string[];
}

/**
 * Splits a SPIFFE ID into trust domain and segments, which `requireSegment` has to check.
 * @throws {RequestError} `spiffe_id_malformed`
 */
export function splitSpiffeUri(uri: string): SpiffeUri {
  // Consul's texts (agent/connect/uri.go).
  if (!/^spiffe:/i.test(uri)) throw malformed("SPIFFE ID must have 'spiffe' scheme");
  const slash = uri.indexOf("/", "spiffe://".length);
  const [host, path] =
    slash < 0
      ? [uri.slice("spiffe://".length), ""]
      : [uri.slice("spiffe://".length, slash), uri.slice(slash)];
  if (
    uri.length > MAX_LENGTH ||
    !uri.startsWith("//", "spiffe:".length) ||
    !HOST.test(host) ||
    !PATH.test(path)
  )
    throw unexpected(uri);
  if (host.length > MAX_TRUST_DOMAIN)
    throw malformed(`SPIFFE ID has a trust domain of more than ${MAX_TRUST_DOMAIN} characters`);
  if (path.includes("%"))
    throw malformed(
      `SPIFFE ID must not be percent-encoded: "${uri}"; a path segment has letters, digits, '.', '-' and '_'`,
    );
  return { trustDomain: host.toLowerCase(), segments: path === "" ? [] : path.slice(1).split("/") };
}

/** The error for a URI of an unknown format, with Consul's text. */
function unexpected(uri: string): RequestError {
  return malformed(`SPIFFE ID is not in the expected format: ${uri.slice(0, MAX_LENGTH)}`);
}

/**
 * Checks one path segment by SPIFFE-ID §2.2.
 * @param what names the segment in the error: `service`, `datacenter`.
 * @returns the segment.
 * @throws {RequestError} `spiffe_id_malformed`
 */
export function requireSegment(segment: string, what: string): string {
  const refuse = (fault: string) =>
    malformed(`Invalid ${what}: ${JSON.stringify(segment)} ${fault}`);
  if (segment === "") throw refuse("is empty, which a segment of a SPIFFE ID must not be");
  if (segment === "." || segment === "..")
    throw refuse("is a dot segment, which a SPIFFE ID must not have");
  if (SEGMENT.test(segment)) return segment;
  throw refuse(
    "has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed",
  );
}

function malformed(message: string): RequestError {
  return new RequestError("spiffe_id_malformed", message);
}

/** The part of the mesh that an identity is in. */
export interface InDatacenter {
  readonly trustDomain: string;
  readonly datacenter: string;
}

/** An identity that a leaf can have. */
export type LeafId = InDatacenter &
  (
    | {
        readonly kind: "service";
        readonly partition: string;
        readonly namespace: string;
        readonly service: string;
      }
    | { readonly kind: "agent"; readonly partition: string; readonly node: string }
    | { readonly kind: "mesh-gateway"; readonly partition: string }
    | { readonly kind: "server" }
  );
/** `signing` is the ID of a trust domain itself, which its CA certificates have. */
export type SpiffeId = LeafId | { readonly kind: "signing"; readonly trustDomain: string };

/** Consul's default admin partition, which an ID omits, and default namespace, which an ID names. */
const DEFAULT_PARTITION = "default";
const DEFAULT_NAMESPACE = "default";

/**
 * Parses a SPIFFE ID of any kind. Scheme and trust domain may be in any case; everything else must be
 * as `formatSpiffeId` writes it.
 * @throws {RequestError} `spiffe_id_malformed`
 */
export function parseSpiffeId(uri: string): SpiffeId {
  const { trustDomain, segments } = splitSpiffeUri(uri);
  if (segments.length === 0) {
    if (trustDomain.indexOf(".") < 1) throw unexpected(uri);
    return { kind: "signing", trustDomain };
  }
  const inPartition = segments[0] === "ap" && segments.length > 2;
  const path = inPartition ? segments.slice(2) : segments;
  const partition = () =>
    inPartition ? requirePartition(segments[1] as string) : DEFAULT_PARTITION;
  const datacenter = (at: number) => requireSegment(path[at] as string, "datacenter");

  if (matches(path, SERVICE))
    return {
      kind: "service",
      trustDomain,
      partition: partition(),
      namespace: requireSegment(path[1] as string, "namespace"),
      datacenter: datacenter(3),
      service: requireSegment(path[5] as string, "service"),
    };
  if (matches(path, AGENT))
    return {
      kind: "agent",
      trustDomain,
      partition: partition(),
      datacenter: datacenter(3),
      node: requireSegment(path[5] as string, "node"),
    };
  if (matches(path, MESH_GATEWAY))
    return { kind: "mesh-gateway", trustDomain, partition: partition(), datacenter: datacenter(3) };
  if (!inPartition && matches(path, SERVER))
    return { kind: "server", trustDomain, datacenter: datacenter(3) };
  throw unexpected(uri);
}

/** Checks a partition for the canonical spelling: Consul lowers its case and omits the default one. */
function requirePartition(segment: string): string {
  const partition = requireSegment(segment, "admin partition");
  if (partition !== partition.toLowerCase())
    throw malformed(`Invalid admin partition: ${JSON.stringify(partition)} must be in lower case`);
  if (partition === DEFAULT_PARTITION)
    throw malformed(
      'Invalid admin partition: "default" is not named in a SPIFFE ID; leave "/ap/default" out',
    );
  return partition;
}

/**
 * Refuses identities of Consul Enterprise: rights here do not distinguish namespaces and partitions,
 * so a right to one would be a right to all.
 * @throws {RequestError} `profile_violation`, with Consul's texts
 * (agent/consul/leader_connect_ca_ce.go).
 */
export function requireDefaultScope(id: LeafId): void {
  if (id.kind === "server") return;
  const inDefaultPartition = id.partition === DEFAULT_PARTITION;
  if (id.kind === "service") {
    if (inDefaultPartition && id.namespace === DEFAULT_NAMESPACE) return;
    throw new RequestError(
      "profile_violation",
      `Non default partition or namespace is supported in Enterprise only.Provided namespace is ${id.namespace} and partition is ${id.partition}`,
    );
  }
  if (!inDefaultPartition)
    throw new RequestError(
      "profile_violation",
      `Non default partition is supported in Enterprise only.Provided partition is ${id.partition}`,
    );
}

/**
 * The ID of a service in the default namespace and partition.
 * @throws {RequestError} `spiffe_id_malformed` for a name that no SPIFFE ID carries
 */
export function serviceId(scope: InDatacenter, service: string): LeafId {
  const { trustDomain, datacenter } = scope;
  return {
    kind: "service",
    trustDomain,
    partition: DEFAULT_PARTITION,
    namespace: DEFAULT_NAMESPACE,
    datacenter,
    service: requireSegment(service, "service"),
  };
}

/**
 * The ID of the agent of a node in the default partition.
 * @throws {RequestError} `spiffe_id_malformed` for a name that no SPIFFE ID carries
 */
export function agentId({ trustDomain, datacenter }: InDatacenter, node: string): LeafId {
  return {
    kind: "agent",
    trustDomain,
    partition: DEFAULT_PARTITION,
    datacenter,
    node: requireSegment(node, "node"),
  };
}

/** The fixed words of a path; null in place of a name. */
type Pattern = readonly (string | null)[];
const SERVICE: Pattern = ["ns", null, "dc", null, "svc", null];
const AGENT: Pattern = ["agent", "client", "dc", null, "id", null];
const MESH_GATEWAY: Pattern = ["gateway", "mesh", "dc", null];
const SERVER: Pattern = ["agent", "server", "dc", null];

/**
 * Whether IDs of some kind begin with these segments, such as `ns`, `default`, `dc`.
 * @param path without a partition.
 */
export function beginsAnId(path: readonly string[]): boolean {
  return [SERVICE, AGENT, MESH_GATEWAY, SERVER].some(
    (pattern) => path.length < pattern.length && matches(path, pattern.slice(0, path.length)),
  );
}

function matches(path: readonly string[], pattern: Pattern): boolean {
  if (path.length !== pattern.length) return false;
  for (let i = 0; i < pattern.length; i++)
    if (pattern[i] === null ? path[i] === "" : pattern[i] !== path[i]) return false;
  return true;
}

/** Writes a SPIFFE ID in canonical form: lower-case trust domain, without the default partition. */
export function formatSpiffeId(id: SpiffeId): string {
  const root = `spiffe://${id.trustDomain}`;
  if (id.kind === "signing") return root;
  if (id.kind === "server") return `${root}/agent/server/dc/${id.datacenter}`;
  const scope = id.partition === DEFAULT_PARTITION ? root : `${root}/ap/${id.partition}`;
  switch (id.kind) {
    case "service":
      return `${scope}/ns/${id.namespace}/dc/${id.datacenter}/svc/${id.service}`;
    case "agent":
      return `${scope}/agent/client/dc/${id.datacenter}/id/${id.node}`;
    case "mesh-gateway":
      return `${scope}/gateway/mesh/dc/${id.datacenter}`;
  }
}
