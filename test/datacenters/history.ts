/**
 * The record of one run of several datacenters: what each published, and the leaves that each signed.
 * check.ts has its invariants.
 * @module
 */
import { pemOf } from "../../src/core/x509/certificate.ts";
import { publishedRoots, wireIndex } from "../../src/http/ca-json.ts";
import { opensslCsr, serviceUri, type TestCa } from "../fakes/ca.ts";
import type { Leaf, RootsRead } from "../faults/history.ts";
import type { MeshDatacenter, SignedLeaf, WireRoots } from "./mesh-datacenter.ts";
import { ask } from "./servers.ts";

/** A root as a datacenter publishes it. */
export interface PublishedRoot {
  readonly id: string;
  readonly active: boolean;
  readonly pem: string;
  readonly clusterId: string;
  readonly modifyIndex: number;
}

/** A listing of roots, as a client of a datacenter had it; `replica` is one of its servers. */
export interface ListingRead extends RootsRead {
  readonly datacenter: string;
  /** By the clock of verifiers. */
  readonly at: Date;
  readonly trustDomain: string;
  readonly roots: readonly PublishedRoot[];
}

/** A leaf, as a client of a datacenter got it. */
export interface LeafRead extends Leaf {
  readonly datacenter: string;
  /** When it was signed, by the clock of verifiers. */
  readonly at: Date;
}

/** The events of all datacenters, each list in the order in which they were recorded. */
export interface MeshHistory {
  readonly reads: readonly ListingRead[];
  readonly leaves: readonly LeafRead[];
}

/** Between two rounds of `watch`. */
const EVERY_MS = 1000;

/** Records what datacenters answer. */
export class MeshRecorder implements MeshHistory {
  readonly reads: ListingRead[] = [];
  readonly leaves: LeafRead[] = [];

  /** Reads the roots of every server of a datacenter. @returns the listings. */
  async read(datacenter: MeshDatacenter): Promise<readonly ListingRead[]> {
    const { name } = datacenter;
    const listings: ListingRead[] = [];
    for (const server of datacenter.servers) {
      const begin = performance.now();
      const { status, text, index } = await ask(server, "GET", "/v1/connect/ca/roots");
      if (status !== 200) throw new Error(`Roots of ${name}: ${status} ${text}`);
      const wire = JSON.parse(text) as WireRoots;
      listings.push({
        ...{ client: name, datacenter: name, replica: `${name} ${server.pid}`, index },
        ...{ at: new Date(), begin, end: performance.now() },
        ...{ trustDomain: wire.TrustDomain, activeRootId: wire.ActiveRootID },
        roots: wire.Roots.map((root) => ({
          ...{ id: root.ID, active: root.Active, pem: root.RootCert },
          ...{ clusterId: root.ExternalTrustDomain, modifyIndex: root.ModifyIndex },
        })),
      });
    }
    this.reads.push(...listings);
    return listings;
  }

  /** Has the first server of a datacenter sign a leaf, and records it. */
  async sign(
    datacenter: MeshDatacenter,
    service: string,
    keyArgs?: readonly string[],
  ): Promise<SignedLeaf> {
    const { name, server } = datacenter;
    const begin = performance.now();
    const leaf = await datacenter.sign(service, keyArgs);
    this.leaves.push({
      ...{ client: name, datacenter: name, replica: `${name} ${server.pid}`, pem: leaf.pem },
      ...{ at: new Date(), begin, end: performance.now() },
    });
    return leaf;
  }

  /**
   * Reads the roots of every server and has a leaf signed in every datacenter, again and again. A server
   * that does not run is left out.
   * @returns what ends it, and resolves when it has ended.
   */
  watch(datacenters: readonly MeshDatacenter[]): () => Promise<void> {
    let isOn = true;
    const watching = (async () => {
      while (isOn) {
        for (const each of datacenters)
          await this.read(each)
            .then(() => this.sign(each, "watched"))
            .catch(() => undefined);
        await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      }
    })();
    return async () => {
      isOn = false;
      await watching;
    };
  }

  /** Records the roots of a CA in this process, and a leaf that it signs, by its own clock. */
  async take({ manager, clock }: TestCa, name: string): Promise<void> {
    const { state, active } = manager.require();
    const at = clock.now();
    const read = performance.now();
    this.reads.push({
      ...{ client: name, datacenter: name, replica: name, index: wireIndex(state), at },
      ...{ begin: read, end: read },
      ...{ trustDomain: state.trustDomain, activeRootId: active.id },
      roots: publishedRoots(state, at).map((root) => ({
        ...{ id: root.id, active: root.status === "active", pem: pemOf(root.certificate) },
        ...{ clusterId: root.externalTrustDomain, modifyIndex: root.modifyIndex },
      })),
    });
    const { csr } = opensslCsr(
      `URI:${serviceUri(manager, "web").replace("/dc/dc1/", `/dc/${name}/`)}`,
    );
    const { certificatePem: pem } = await manager.sign(csr);
    this.leaves.push({
      ...{ client: name, datacenter: name, replica: name, pem, at },
      ...{ begin: read, end: performance.now() },
    });
  }
}
