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
  /** The values at the `*`s of a pattern, or null where the path is not of that form. */
  const values = (pattern: string): string[] | null => {
    const want = pattern.split("/");
    if (want.length !== path.length || !want.every((word, i) => (word === "*" ? path[i] !== "" : word === path[i]))) return null;
    return path.filter((_, i) => want[i] === "*");
  };

  const service = values("ns/*/dc/*/svc/*");
  if (service !== null) {
    const [ns = "", dc = "", name = ""] = service;
    return {
      kind: "service",
      trustDomain,
      partition: partition(),
      namespace: decodeSegment(ns, "namespace"),
      datacenter: decodeSegment(dc, "datacenter"),
      service: decodeSegment(name, "service"),
    };
  }
  const agent = values("agent/client/dc/*/id/*");
  if (agent !== null) {
    const [dc = "", node = ""] = agent;
    return {
      kind: "agent",
      trustDomain,
      partition: partition(),
      datacenter: decodeSegment(dc, "datacenter"),
      node: decodeSegment(node, "node"),
    };
  }
  const gateway = values("gateway/mesh/dc/*");
  if (gateway !== null)
    return { kind: "mesh-gateway", trustDomain, partition: partition(), datacenter: decodeSegment(gateway[0] as string, "datacenter") };
  const server = inPartition ? null : values("agent/server/dc/*");
  if (server !== null) return { kind: "server", trustDomain, datacenter: decodeSegment(server[0] as string, "datacenter") };
  throw unexpected(uri);
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
