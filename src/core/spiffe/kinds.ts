/**
 * The kinds of identity in a Consul mesh, and the SPIFFE ID of each (Consul's
 * agent/connect/uri.go). An ID has one spelling: what is decided about one is decided on it.
 * @module
 */
import { RequestError } from "../errors.ts";
import { malformed, requireSegment, splitSpiffeUri, unexpected } from "./id.ts";

interface InDatacenter {
  readonly trustDomain: string;
  readonly datacenter: string;
}

export interface ServiceId extends InDatacenter {
  readonly kind: "service";
  readonly partition: string;
  readonly namespace: string;
  readonly service: string;
}

export interface AgentId extends InDatacenter {
  readonly kind: "agent";
  readonly partition: string;
  readonly node: string;
}

export interface MeshGatewayId extends InDatacenter {
  readonly kind: "mesh-gateway";
  readonly partition: string;
}

export interface ServerId extends InDatacenter {
  readonly kind: "server";
}

/** A trust domain's own ID, which its CA certificates carry. */
export interface SigningId {
  readonly kind: "signing";
  readonly trustDomain: string;
}

/** An identity that a leaf can have. */
export type LeafId = ServiceId | AgentId | MeshGatewayId | ServerId;
export type SpiffeId = LeafId | SigningId;

/**
 * Consul's default admin partition, which an ID does not name, and its default namespace, which an
 * ID names.
 */
const DEFAULT_PARTITION = "default";
const DEFAULT_NAMESPACE = "default";

/**
 * Reads a SPIFFE ID of any kind. Scheme and trust domain may be in any case; everything else must
 * be as `formatSpiffeId` writes it.
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

/**
 * A partition that an ID names: Consul lowers its case and leaves the default one out, so other
 * spellings are not canonical.
 */
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
 * Refuses the identities of Consul Enterprise: rights do not tell namespaces and partitions apart
 * here, so that a right to one would be a right to all.
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

/** The fixed words of a path; null where a name stands. */
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

/**
 * Writes a SPIFFE ID in its one canonical form: lower-case trust domain, the default partition left
 * out.
 */
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

/**
 * The trust domain of a cluster: Consul's top-level domain is fixed (agent/connect/uri_signing.go).
 */
export function trustDomainOf(clusterId: string): string {
  return `${clusterId.toLowerCase()}.consul`;
}
