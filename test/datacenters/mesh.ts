/**
 * Several datacenters as real processes, each with an agent and a service: the services call each other
 * by mutual TLS all the time, whatever a test does to the datacenters.
 * @module
 */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AgentProcess, startAgent } from "../fixtures/agent.ts";
import { PeerProcess } from "../interop/peer.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { type DatacenterPlan, MeshDatacenter } from "./mesh-datacenter.ts";
import type { Callee } from "./mesh-service.ts";
import { call } from "./servers.ts";

/** dc1 on SQLite, the primary; dc2 two replicas on a Redis; dc3 on another runtime. */
export const THREE: readonly DatacenterPlan[] = [
  { name: "dc1", runtimes: ["bun"], agent: "bun" },
  { name: "dc2", runtimes: ["node", "bun"], agent: "node" },
  { name: "dc3", runtimes: ["deno"], agent: "deno" },
];

/** The service of each datacenter. */
export const SERVICE = "web";
/** Life of the leaves of agents: they are renewed within a test, with time to spare if it is slow. */
const LEAF_TTL = "2m";

/** How often failures are looked for while a test does something. */
const WATCH_MS = 200;

export interface MeshOptions {
  /** The primary first. @default THREE */
  readonly datacenters?: readonly DatacenterPlan[];
  /** Whether there are agents and services, or servers only. @default true */
  readonly traffic?: boolean;
}

/** What went on while a test did something. */
export interface Traffic {
  readonly handshakes: number;
}

/** An agent with the service that it is for. */
interface Workload {
  readonly datacenter: MeshDatacenter;
  readonly agent: AgentProcess;
  readonly service: PeerProcess;
  readonly uri: string;
}

/**
 * Starts the datacenters, in their order, then the agents and services.
 * @returns when every service has called every other one.
 */
export async function startMesh({
  datacenters = THREE,
  traffic = true,
}: MeshOptions = {}): Promise<Mesh> {
  const mesh = new Mesh();
  try {
    await mesh.start(datacenters);
    if (traffic) await mesh.startTraffic();
  } catch (error) {
    await mesh.stop().catch(() => undefined);
    throw error;
  }
  return mesh;
}

export class Mesh {
  readonly #folder = mkdtempSync(join(tmpdir(), "meshca-mesh-"));
  /** The services to call. */
  readonly #peersFile = join(this.#folder, "peers.json");
  readonly #datacenters: MeshDatacenter[] = [];
  #workloads: Workload[] = [];
  /** Handshakes of services that are gone. */
  #ofLost = 0;

  /** In their order, the first primary first. */
  get datacenters(): readonly MeshDatacenter[] {
    return this.#datacenters;
  }

  get primary(): MeshDatacenter {
    return this.#at(0);
  }

  /** @throws {Error} for a name that it has not */
  datacenter(name: string): MeshDatacenter {
    return this.#at(this.#datacenters.findIndex((each) => each.name === name));
  }

  /** The agent of a datacenter. @throws {Error} without traffic */
  agent(name: string): AgentProcess {
    const found = this.#workloads.find(({ datacenter }) => datacenter.name === name);
    if (found === undefined) throw new Error(`${name} has no agent`);
    return found.agent;
  }

  /** Handshakes of all services until now that succeeded, give or take ten of each. */
  get handshakes(): number {
    return this.#workloads.reduce((sum, { service }) => sum + service.handshakes, this.#ofLost);
  }

  /** Each handshake that failed: when, between whom, why. */
  get failures(): readonly string[] {
    return this.#workloads.flatMap(({ service }) => service.failures).toSorted();
  }

  /**
   * Does something, and then waits until every service has called every other one again.
   * @returns the handshakes since the begin.
   * @throws {Error} with the first failed handshake, as soon as there is one
   */
  async during(work: () => Promise<unknown>): Promise<Traffic> {
    const before = this.handshakes;
    const watch = Promise.withResolvers<never>();
    const timer = setInterval(() => {
      try {
        this.requireNoFailure();
      } catch (error) {
        watch.reject(error);
      }
    }, WATCH_MS);
    try {
      await Promise.race([work().then(() => this.#round()), watch.promise]);
    } finally {
      clearInterval(timer);
    }
    this.requireNoFailure();
    return { handshakes: this.handshakes - before };
  }

  /** @throws {Error} with the first failed handshakes: both sides report one */
  requireNoFailure(): void {
    const { failures, handshakes } = this;
    if (failures.length === 0) return;
    throw new Error(
      `${failures.length} reports of failed handshakes, ${handshakes} succeeded; the first:\n${failures.slice(0, 4).join("\n")}`,
    );
  }

  /** Waits until every datacenter has the primary's active root. @param among default: all. */
  async followed(
    among: readonly MeshDatacenter[] = this.#datacenters,
    primary: MeshDatacenter = this.primary,
  ): Promise<void> {
    const { ActiveRootID } = await primary.roots();
    for (const each of among) await each.follows(ActiveRootID);
  }

  /**
   * Waits until every service has verified a leaf of the present issuer of each of these datacenters:
   * the agents renew within 30 s after a new root.
   */
  async renewed(among: readonly MeshDatacenter[] = this.#datacenters): Promise<void> {
    for (const each of among) {
      const { SigningKeyID } = await each.activeRoot();
      for (const { service } of this.#workloads) await service.saw("peer", SigningKeyID);
    }
  }

  /** Starts the servers. */
  async start(plans: readonly DatacenterPlan[]): Promise<void> {
    const [first, ...others] = plans;
    if (first === undefined) throw new Error("A mesh has at least one datacenter");
    const primary = await MeshDatacenter.start(first, null);
    this.#datacenters.push(primary);
    const rootsPem = await call(primary.server, "GET", "/v1/connect/ca/roots?pem=true");
    for (const plan of others) {
      const replicationToken = await primary.replicationToken(plan.name);
      const { name, server } = primary;
      this.#datacenters.push(
        await MeshDatacenter.start(plan, { name, port: server.port, rootsPem, replicationToken }),
      );
    }
  }

  /** Starts an agent and a service for each datacenter. */
  async startTraffic(): Promise<void> {
    writeFileSync(this.#peersFile, "[]");
    for (const [i, datacenter] of this.#datacenters.entries())
      this.#workloads.push(await this.#workload(datacenter, i));
    await this.#writePeers();
    await this.#round();
    this.requireNoFailure();
  }

  /** Kills a datacenter with its agent and its service, which the others do not call any more. */
  async lose(name: string): Promise<void> {
    const lost = this.#workloads.filter(({ datacenter }) => datacenter.name === name);
    this.#workloads = this.#workloads.filter(({ datacenter }) => datacenter.name !== name);
    await this.#writePeers();
    await this.#round();
    for (const { service, agent } of lost) {
      await service.stop();
      this.#ofLost += service.handshakes;
      if (service.failures.length > 0) throw new Error(service.failures.join("\n"));
      await agent.stop();
    }
    await this.datacenter(name).kill();
  }

  /** Ends everything. @throws {Error} if something did not end in order, after all has ended */
  async stop(): Promise<void> {
    const parts = [
      ...this.#workloads.map(({ service }) => service),
      ...this.#workloads.map(({ agent }) => agent),
      ...this.#datacenters.toReversed(),
    ];
    const faults: unknown[] = [];
    for (const part of parts)
      await Promise.resolve(part.stop()).catch((error: unknown) => faults.push(error));
    rmSync(this.#folder, { recursive: true, force: true });
    if (faults.length > 0) throw faults[0];
  }

  /** Tells the services whom to call. They read the file all the time: the old list or the new one. */
  async #writePeers(): Promise<void> {
    const callees = await Promise.all(
      this.#workloads.map(async ({ uri, service }): Promise<Callee> => {
        return { uri, address: await service.address };
      }),
    );
    writeFileSync(`${this.#peersFile}.new`, JSON.stringify(callees));
    renameSync(`${this.#peersFile}.new`, this.#peersFile);
  }

  async #workload(datacenter: MeshDatacenter, number: number): Promise<Workload> {
    const folder = join(this.#folder, datacenter.name);
    mkdirSync(folder);
    const file = (name: string, text: string) => {
      writeFileSync(join(folder, name), text, { mode: 0o600 });
      return join(folder, name);
    };
    const { server, name, urls } = datacenter;
    const { SecretID } = JSON.parse(
      await call(server, "PUT", "/v1/acl/token", { ServiceIdentities: [{ ServiceName: SERVICE }] }),
    ) as { readonly SecretID: string };
    const { TrustDomain } = await datacenter.roots();
    const uri = `spiffe://${TrustDomain}/ns/default/dc/${name}/svc/${SERVICE}`;
    const roots = await call(server, "GET", "/v1/connect/ca/roots?pem=true");
    const agent = await startAgent(
      [
        ...urls.flatMap((url) => ["--server", url]),
        ...["--ca-file", file("ca.pem", roots), "--token-file", file("token", SecretID)],
        ...[
          "--service",
          SERVICE,
          "--ttl",
          datacenter.plan.leafTtl ?? LEAF_TTL,
          "--dir",
          join(folder, "credentials"),
        ],
      ],
      { runtime: datacenter.plan.agent ?? "bun" },
    );
    // OpenSSL and BoringSSL in turn.
    const [program, ...flags] = number % 2 === 0 ? COMMANDS.node() : COMMANDS.bun();
    const script = join(import.meta.dirname, "mesh-service.ts");
    const args = [...flags, script, join(folder, "credentials"), uri, this.#peersFile];
    const service = new PeerProcess(`${SERVICE} of ${name}`, [program, ...args]);
    return { datacenter, agent, service, uri };
  }

  /** Each service calls all others once more, and some of them twice. */
  async #round(): Promise<void> {
    // A count is printed after every tenth handshake.
    const enough = 10 + this.#workloads.length;
    await Promise.all(this.#workloads.map(({ service }) => service.more(enough)));
  }

  #at(index: number): MeshDatacenter {
    const found = this.#datacenters[index];
    if (found === undefined) throw new Error("The mesh has no such datacenter");
    return found;
  }
}
