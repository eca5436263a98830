/**
 * The kinds of identity in a Consul mesh, and the SPIFFE ID of each (consul-ca.md §3.6).
 * @module
 */
import { decodeSegment, encodeSegment, splitSpiffeUri, unexpected } from "./id.ts";

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

/** Consul's default admin partition, which an ID does not name. */
const DEFAULT_PARTITION = "default";

/**
 * Reads a SPIFFE ID of any kind.
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
  const partition = () => (inPartition ? decodeSegment(segments[1] as string, "admin partition").toLowerCase() : DEFAULT_PARTITION);
  const datacenter = (at: number) => decodeSegment(path[at] as string, "datacenter");

  if (matches(path, SERVICE))
    return {
      kind: "service",
      trustDomain,
      partition: partition(),
      namespace: decodeSegment(path[1] as string, "namespace"),
      datacenter: datacenter(3),
      service: decodeSegment(path[5] as string, "service"),
    };
  if (matches(path, AGENT))
    return {
      kind: "agent",
      trustDomain,
      partition: partition(),
      datacenter: datacenter(3),
      node: decodeSegment(path[5] as string, "node"),
    };
  if (matches(path, MESH_GATEWAY)) return { kind: "mesh-gateway", trustDomain, partition: partition(), datacenter: datacenter(3) };
  if (!inPartition && matches(path, SERVER)) return { kind: "server", trustDomain, datacenter: datacenter(3) };
  throw unexpected(uri);
}

/** The fixed words of a path; null where a name stands. */
type Pattern = readonly (string | null)[];
const SERVICE: Pattern = ["ns", null, "dc", null, "svc", null];
const AGENT: Pattern = ["agent", "client", "dc", null, "id", null];
const MESH_GATEWAY: Pattern = ["gateway", "mesh", "dc", null];
const SERVER: Pattern = ["agent", "server", "dc", null];

function matches(path: readonly string[], pattern: Pattern): boolean {
  if (path.length !== pattern.length) return false;
  for (let i = 0; i < pattern.length; i++) if (pattern[i] === null ? path[i] === "" : pattern[i] !== path[i]) return false;
  return true;
}

/** Writes a SPIFFE ID in its one canonical form: lower-case trust domain, the default partition left out. */
export function formatSpiffeId(id: SpiffeId): string {
  const root = `spiffe://${id.trustDomain}`;
  if (id.kind === "signing") return root;
  const dc = encodeSegment(id.datacenter);
  if (id.kind === "server") return `${root}/agent/server/dc/${dc}`;
  const scope = id.partition === DEFAULT_PARTITION ? root : `${root}/ap/${encodeSegment(id.partition)}`;
  switch (id.kind) {
    case "service":
      return `${scope}/ns/${encodeSegment(id.namespace)}/dc/${dc}/svc/${encodeSegment(id.service)}`;
    case "agent":
      return `${scope}/agent/client/dc/${dc}/id/${encodeSegment(id.node)}`;
    case "mesh-gateway":
      return `${scope}/gateway/mesh/dc/${dc}`;
  }
}

/** The trust domain of a cluster: Consul's top-level domain is fixed (consul-ca.md §3.3). */
export function trustDomainOf(clusterId: string): string {
  return `${clusterId.toLowerCase()}.consul`;
}
