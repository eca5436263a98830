/**
 * One datacenter of a mesh: its servers as real processes, on SQLite or as replicas on a Redis of
 * their own, and the way to the primary, which a test can cut.
 * @module
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { createMonitor, type Monitor } from "../faults/monitor.ts";
import { createProxy, type Network } from "../faults/proxy.ts";
import type { AgentRuntime } from "../fixtures/agent.ts";
import { type Command, type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { type RedisServer, startRedis, until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { ask, call, MANAGEMENT } from "./servers.ts";

/** What a datacenter consists of. */
export interface DatacenterPlan {
  readonly name: string;
  /** The runtime of each of its servers. More than one are replicas on a Redis. @default ["bun"] */
  readonly runtimes?: readonly (keyof typeof COMMANDS)[];
  /** The runtime of its agent. @default "bun" */
  readonly agent?: AgentRuntime;
  /** How far the clocks of its servers are ahead; those servers must be on Bun. @default 0 */
  readonly clockShiftMs?: number;
  /** More MESHCA_* variables of its servers. */
  readonly environment?: Readonly<Record<string, string>>;
  /** How long the leaves of its agent live, as a Go duration. @default "2m" */
  readonly leafTtl?: string;
}

export interface WireRoot {
  readonly ID: string;
  readonly RootCert: string;
  readonly IntermediateCerts: readonly string[] | null;
  readonly SigningKeyID: string;
  /** The cluster id. */
  readonly ExternalTrustDomain: string;
  readonly Active: boolean;
  /** Only on one that is published and does not sign yet. */
  readonly Prepared?: boolean;
  readonly ModifyIndex: number;
}

export interface WireRoots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly WireRoot[];
}

/** A leaf with its key. */
export interface SignedLeaf {
  readonly datacenter: string;
  readonly uri: string;
  /** PEM of the leaf and all that is presented with it. */
  readonly pem: string;
  readonly key: string;
}

/** How the servers of a secondary reach the primary. */
interface Primary {
  readonly name: string;
  readonly port: number;
  readonly rootsPem: string;
  readonly replicationToken: string;
}

/** The folder and port of a server, which it keeps over a restart. */
interface Place {
  readonly runtime: keyof typeof COMMANDS;
  readonly dataDir: string;
  process: ServerProcess | null;
  port: number;
}

/** With a rate agents renew within the shortest window after a new root, 30 s (docs/workloads.md). */
const CA_CONFIG = { csr_max_per_second: 1000 };

const SHIFTED: Command = [
  process.execPath,
  "--preload",
  join(ROOT, "test/recovery/shifted-clock.ts"),
];

export class MeshDatacenter {
  readonly plan: DatacenterPlan;
  /** The way to the primary; null in the primary. */
  readonly link: Network | null;
  readonly #places: readonly Place[];
  readonly #redis: RedisServer | null;
  /** For each other datacenter. */
  readonly #replicationTokens = new Map<string, string>();
  /** Its own key-encryption key. */
  readonly kek = makeKek();
  #environment: Readonly<Record<string, string>>;
  /** The configuration file of its servers. */
  #file: Readonly<Record<string, unknown>>;
  readonly #primaryPort: number;

  private constructor(
    plan: DatacenterPlan,
    {
      link,
      redis,
      primary,
    }: Readonly<{
      link: Network | null;
      redis: RedisServer | null;
      primary: Primary | null;
    }>,
  ) {
    this.plan = plan;
    this.link = link;
    this.#redis = redis;
    this.#primaryPort = primary?.port ?? 0;
    this.#file = {
      primary_datacenter: primary?.name ?? plan.name,
      connect: { ca_config: CA_CONFIG },
    };
    const { name, runtimes = ["bun"], clockShiftMs = 0, environment = {} } = plan;
    this.#places = runtimes.map((runtime) => ({
      runtime,
      dataDir: mkdtempSync(join(tmpdir(), `meshca-${name}-`)),
      process: null,
      port: 0,
    }));
    this.#environment = {
      MESHCA_DATACENTER: name,
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
      MESHCA_TLS: "self",
      MESHCA_KEK: this.kek,
      ...(redis === null ? {} : { MESHCA_STORE: `redis://127.0.0.1:${redis.port}` }),
      ...(clockShiftMs === 0 ? {} : { TEST_CLOCK_SHIFT_MS: String(clockShiftMs) }),
      ...environment,
    };
  }

  /** Starts a datacenter. @param primary null: this is the primary. */
  static async start(plan: DatacenterPlan, primary: Primary | null): Promise<MeshDatacenter> {
    const redis = (plan.runtimes ?? []).length > 1 ? await startRedis() : null;
    const link = primary === null ? null : await createProxy(primary.port);
    const datacenter = new MeshDatacenter(plan, { link, redis, primary });
    try {
      if (primary !== null && link !== null) {
        for (const { dataDir } of datacenter.#places)
          writeFileSync(join(dataDir, "primary.pem"), primary.rootsPem);
        datacenter.#file = {
          ...datacenter.#file,
          primary_servers: [`https://127.0.0.1:${link.port}`],
          acl: { tokens: { replication: primary.replicationToken } },
        };
      }
      for (const index of datacenter.#places.keys()) await datacenter.startServer(index);
    } catch (error) {
      await datacenter.stop();
      throw error;
    }
    return datacenter;
  }

  get name(): string {
    return this.plan.name;
  }

  /** The data folder of its first server. */
  get folder(): string {
    return this.#place(0).dataDir;
  }

  /** The servers that run, in their order. */
  get servers(): readonly ServerProcess[] {
    return this.#places.flatMap(({ process: running }) => (running === null ? [] : [running]));
  }

  /** The addresses of all servers, also of those that do not run. */
  get urls(): readonly string[] {
    return this.#places.map(({ port }) => `https://127.0.0.1:${port}`);
  }

  /** The first server that runs. @throws {Error} if none does */
  get server(): ServerProcess {
    const [first] = this.servers;
    if (first === undefined) throw new Error(`No server of ${this.name} runs`);
    return first;
  }

  /**
   * Ends a server. @returns when it has ended.
   * @param signal SIGKILL: as when its machine is lost. @default "SIGTERM"
   */
  async stopServer(index = 0, signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const place = this.#place(index);
    place.process?.kill(signal);
    await place.process?.ended;
    place.process = null;
  }

  /** Records what the Redis of this datacenter accepts from now on. @throws {Error} without one */
  async monitor(): Promise<Monitor> {
    const kek = this.#environment.MESHCA_KEK;
    if (this.#redis === null || kek === undefined) throw new Error(`${this.name} has no Redis`);
    const role = { name: this.name, isSecondary: this.link !== null };
    const codec = createCodec(createSealer(await readKeks(kek)), role);
    return createMonitor(this.#redis, `meshca:${this.name}`, codec);
  }

  /** Kills all servers at once. @returns when they have ended. */
  async kill(): Promise<void> {
    for (const index of this.#places.keys()) await this.stopServer(index, "SIGKILL");
  }

  /**
   * Stops and starts the servers, one after the other.
   * @param changes of their environment, which last.
   */
  async restart(changes: Readonly<Record<string, string>> = {}): Promise<void> {
    this.#environment = { ...this.#environment, ...changes };
    for (const index of this.#places.keys()) {
      await this.stopServer(index);
      await this.startServer(index);
      await until(async () => (await ask(this.#running(index), "GET", "/readyz")).status === 200);
    }
  }

  /** Writes a file for its servers. @returns its path. */
  writeFile(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }

  /** Starts a server, on the folder and port that it had before. */
  async startServer(index = 0): Promise<void> {
    const place = this.#place(index);
    this.#write(place);
    const { clockShiftMs = 0 } = this.plan;
    place.process = await startServer(
      {
        ...this.#environment,
        MESHCA_DATA_DIR: place.dataDir,
        MESHCA_CONFIG: join(place.dataDir, "meshca.json"),
        ...(place.port === 0 ? {} : { MESHCA_LISTEN: `127.0.0.1:${place.port}` }),
      },
      [],
      clockShiftMs === 0 ? COMMANDS[place.runtime](place.dataDir) : SHIFTED,
    );
    place.port = place.process.port;
  }

  /** Changes keys of the configuration file, and has the servers that run read it again. */
  configure(changes: Readonly<Record<string, unknown>>): void {
    this.#file = { ...this.#file, ...changes };
    for (const place of this.#places) {
      this.#write(place);
      if (place.process !== null) process.kill(place.process.pid, "SIGHUP");
    }
  }

  /** Nothing gets through to the primary, until `reconnect`. */
  cutOff(): void {
    this.link?.lead(null);
    this.link?.cut();
  }

  /** @param port of another primary. @default the first primary's */
  reconnect(port = this.#primaryPort): void {
    this.link?.lead(port);
  }

  /** The roots by one of its servers. */
  async roots(server: ServerProcess = this.server): Promise<WireRoots> {
    return JSON.parse(await call(server, "GET", "/v1/connect/ca/roots")) as WireRoots;
  }

  /** The active root by one of its servers. */
  async activeRoot(server: ServerProcess = this.server): Promise<WireRoot> {
    const active = (await this.roots(server)).Roots.find(({ Active }) => Active);
    if (active === undefined) throw new Error(`${this.name} has no active root`);
    return active;
  }

  /** `PUT rotate`: in the primary a new root, in a secondary a new intermediate. */
  async rotate(): Promise<void> {
    await call(this.server, "PUT", "/v1/connect/ca/rotate");
  }

  /** A leaf of a service. @param keyArgs openssl's arguments for its key. */
  async sign(
    service: string,
    keyArgs?: readonly string[],
    server: ServerProcess = this.server,
  ): Promise<SignedLeaf> {
    const { TrustDomain } = await this.roots(server);
    const uri = `spiffe://${TrustDomain}/ns/default/dc/${this.name}/svc/${service}`;
    const { csr, key } = opensslCsr(`URI:${uri}`, keyArgs);
    const answer = await call(server, "PUT", "/v1/connect/ca/sign", csr);
    const { CertPEM } = JSON.parse(answer) as { readonly CertPEM: string };
    return { datacenter: this.name, uri, pem: CertPEM, key };
  }

  /** The token of this datacenter with which another one has its intermediate signed. */
  async replicationToken(datacenter: string): Promise<string> {
    const made = this.#replicationTokens.get(datacenter);
    if (made !== undefined) return made;
    const rules = { Name: `datacenter-${datacenter}`, Rules: 'intermediate = "write"' };
    const policy = JSON.parse(await call(this.server, "PUT", "/v1/acl/policy", rules)) as {
      readonly ID: string;
    };
    const linked = { Policies: [{ ID: policy.ID }] };
    const token = JSON.parse(await call(this.server, "PUT", "/v1/acl/token", linked)) as {
      readonly SecretID: string;
    };
    this.#replicationTokens.set(datacenter, token.SecretID);
    return token.SecretID;
  }

  /** Waits until every server has this active root. */
  async follows(rootId: string): Promise<void> {
    await until(async () => {
      const active = await Promise.all(this.servers.map((server) => this.roots(server)));
      return active.every(({ ActiveRootID }) => ActiveRootID === rootId);
    });
  }

  /** Which of the servers that run does the background work, once one does. */
  async leader(): Promise<number> {
    let leader = -1;
    await until(async () => {
      const texts = await Promise.all(this.servers.map((each) => this.readyz(each)));
      leader = texts.findIndex((text) => /^role: leader$/m.test(text));
      return leader >= 0;
    });
    return leader;
  }

  /** `/readyz` of one of its servers. */
  async readyz(server: ServerProcess = this.server): Promise<string> {
    return (await ask(server, "GET", "/readyz")).text;
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    for (const index of [...this.#places.keys()].toReversed()) await this.stopServer(index);
    this.link?.close();
    await this.#redis?.stop();
    for (const { dataDir } of this.#places) rmSync(dataDir, { recursive: true, force: true });
  }

  #running(index: number): ServerProcess {
    const { process: running } = this.#place(index);
    if (running === null) throw new Error(`Server ${index} of ${this.name} does not run`);
    return running;
  }

  #place(index: number): Place {
    const place = this.#places[index];
    if (place === undefined) throw new Error(`${this.name} has no server ${index}`);
    return place;
  }

  #write({ dataDir }: Place): void {
    const caFile = this.link === null ? {} : { primary_ca_file: join(dataDir, "primary.pem") };
    const text = JSON.stringify({ ...caFile, ...this.#file });
    writeFileSync(join(dataDir, "meshca.json"), text, { mode: 0o600 });
  }
}
