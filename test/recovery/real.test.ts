/**
 * The drill for real, without a clock of its own: a root that lives for half a minute expires under
 * two replicas, two agents and ten services; then an operator types what docs/recovery.md says. The
 * time from "everything has expired" to "ten services shake hands" is printed.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { meshca } from "../cli/run.ts";
import { makeOtherCa } from "../client/tls-server.ts";
import { type AgentProcess, startAgent } from "../fixtures/agent.ts";
import { makeDataDir, type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { freePort, noRedis, type RedisServer, startRedis } from "../redis/server.ts";
import { callUnverified, pinIn, TOKEN, WITH_ACL } from "./expired.ts";
import { handshakesIn, type Service, shakeHandsInRing } from "./handshakes.ts";

const CLUSTER_ID = "7d0bf800-7d57-4a82-37c8-1947050801c0";
const TRUST_DOMAIN = `${CLUSTER_ID}.consul`;
/** The life of the root, in milliseconds: doubled if the mesh does not come up within it. */
const LIVES_MS = [30_000, 60_000, 120_000, 240_000];

interface Replica {
  readonly url: string;
  readonly dataDir: string;
  /** On its port and its data folder. */
  restart(): Promise<ServerProcess>;
}

interface Mesh {
  readonly redis: RedisServer;
  /** One with a certificate of the mesh, one with a certificate of another CA. */
  readonly servers: readonly [own: Replica, other: Replica];
  /** One that trusts the mesh's roots only, one that trusts the other CA. */
  readonly agents: readonly [own: AgentProcess, other: AgentProcess];
  readonly services: readonly Service[];
  readonly rootEnd: Date;
}

describe("everything expires for real", { skip: noRedis }, () => {
  let folder: string;
  const stops: (() => Promise<unknown>)[] = [];
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-drill-"));
  });
  after(async () => {
    await stopAll();
    rmSync(folder, { recursive: true, force: true });
  });

  async function stopAll(): Promise<void> {
    for (const stop of stops.splice(0).toReversed()) await stop();
  }

  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };

  /** A configuration file whose root expires after a while. */
  function configFile(rootEnd: Date): { readonly path: string; readonly root: string } {
    const asn1 = (date: Date) =>
      date
        .toISOString()
        .replace(/[-:T]/g, "")
        .replace(/\.\d+Z/, "Z");
    const begin = new Date(Date.now() - 60_000);
    const { key, certificate } = makeRoot(TRUST_DOMAIN, {
      validity: [asn1(begin), asn1(rootEnd)],
    });
    const ca_config = { cluster_id: CLUSTER_ID, private_key: key, root_cert: certificate };
    const config = { connect: { enabled: true, ca_provider: "consul", ca_config } };
    return { path: file("config.json", JSON.stringify(config)), root: certificate };
  }

  async function startMesh(lifeMs: number, attempt: number): Promise<Mesh> {
    const redis = await startRedis();
    stops.push(() => redis.stop());
    const rootEnd = new Date(Math.floor((Date.now() + lifeMs) / 1000) * 1000);
    const { path, root } = configFile(rootEnd);
    const shared = {
      ...WITH_ACL,
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: makeKek(),
    };
    const ca = makeOtherCa(null);
    const { key, cert } = ca.issue("DNS:localhost,IP:127.0.0.1");
    const serve = async (tls: Readonly<Record<string, string>>): Promise<Replica> => {
      const dataDir = makeDataDir();
      const MESHCA_LISTEN = `127.0.0.1:${await freePort()}`;
      const environment = { ...shared, ...tls, MESHCA_DATA_DIR: dataDir, MESHCA_LISTEN };
      const start = () => startServer(environment, ["--config", path]);
      let server = await start();
      stops.push(async () => {
        await server.stop();
        rmSync(dataDir, { recursive: true, force: true });
      });
      const restart = async () => {
        await server.stop();
        server = await start();
        return server;
      };
      return { url: server.url, dataDir, restart };
    };
    const own = await serve({ MESHCA_TLS: "self" });
    const other = await serve({
      MESHCA_TLS_CERT_FILE: file("server.pem", cert),
      MESHCA_TLS_KEY_FILE: file("server.key", key),
    });
    const names = Array.from({ length: 10 }, (_, i) => `service-${i}`);
    const token = JSON.parse(
      await callUnverified(`${own.url}/v1/acl/token`, "PUT", {
        ServiceIdentities: names.map((ServiceName) => ({ ServiceName })),
      }),
    ) as { readonly SecretID: string };
    const tokenFile = file("token", token.SecretID);
    const services = names.map((name) => ({
      name,
      folder: join(folder, `files-${attempt}`, name),
    }));
    mkdirSync(join(folder, `files-${attempt}`), { mode: 0o700 });
    const agent = async (name: string, server: Replica, pem: string, of: Service[]) => {
      const config = {
        ...{ servers: [server.url], ca_file: file(`${name}-ca.pem`, pem), token_file: tokenFile },
        identities: of.map((service) => ({ service: service.name })),
        folders: of.map((service) => ({ path: service.folder, identity: service.name })),
        listen: "127.0.0.1:0",
      };
      const started = await startAgent(["--config", file(`${name}.json`, JSON.stringify(config))], {
        until: "open",
      });
      stops.push(() => started.stop());
      return started;
    };
    const agents = [
      await agent("own", own, root, services.slice(0, 5)),
      await agent("other", other, ca.pem, services.slice(5)),
    ] as const;
    return { redis, servers: [own, other], agents, services, rootEnd };
  }

  /** The first mesh whose services shook hands before its root expired. */
  async function liveMesh(): Promise<Mesh> {
    for (const [attempt, lifeMs] of LIVES_MS.entries()) {
      const mesh = await startMesh(lifeMs, attempt);
      const isWritten = () =>
        mesh.services.every((service) => existsSync(join(service.folder, "tls.crt")));
      while (!isWritten() && new Date() < mesh.rootEnd)
        await new Promise((resolve) => setTimeout(resolve, 50));
      if (isWritten() && (await handshakesIn(mesh.services)) === mesh.services.length) return mesh;
      await stopAll();
    }
    throw new Error("No root lived long enough for ten services to shake hands under it");
  }

  it("and ten services shake hands again after meshca recover", { timeout: 900_000 }, async () => {
    const { servers, agents, services, rootEnd } = await liveMesh();
    const [own] = servers;
    // Nothing is moved: the time passes.
    await come(() => new Date() > rootEnd);
    for (const agent of agents)
      await agent.logged("A leaf expired without a new one; it is no longer served");
    assert.equal(await handshakesIn(services), 0);
    // A connection that was verified before goes on: without a restart the agent would use it.
    for (const server of servers) {
      const again = await server.restart();
      assert.match(again.stdout(), /"message":"Ready".*"obstacle":"root expired: /);
    }
    await come(() => agents[0].stdout().includes("cannot be verified ("));
    const { reason } = await agents[0].logged(
      "No new connection to a server can be verified any more: certificates in use stay in use until they expire",
    );
    assert.doesNotMatch(agents[1].stdout(), /No new connection to a server can be verified/);

    const began = performance.now();
    const recovered = await meshca(
      ["recover", "--yes", "--http-addr", own.url, "--data-dir", own.dataDir],
      { MESHCA_HTTP_TOKEN: TOKEN },
      "",
      undefined,
      folder,
    );
    assert.equal(recovered.code, 0, recovered.stderr);
    // The agent that trusts another CA is back by itself.
    await handsOf(services.slice(5));
    const half = performance.now();
    assert.ok(!(await isUnderNewRoot(services.slice(0, 5))));
    // The other one needs what its log says.
    const [, typed = ""] = /run (meshca .*) with the fingerprint/.exec(String(reason)) ?? [];
    const command = typed
      .replace(/^meshca/, `${process.execPath} ${join(ROOT, "src/cli/main.ts")}`)
      .replace("sha256:FINGERPRINT", pinIn(own.dataDir));
    assert.equal(spawnSync("sh", ["-c", command]).status, 0, command);
    await handsOf(services);
    await shakeHandsInRing(services);
    const end = performance.now();
    for (const agent of agents) await agent.logged("Ready again");
    const seconds = (ms: number) => (ms / 1000).toFixed(1);
    console.log(
      `From everything expired to ten services that shake hands: ${seconds(end - began)} s; the five whose agent verifies the servers by another CA after ${seconds(half - began)} s`,
    );
  });

  const isUnderNewRoot = async (some: readonly Service[]): Promise<boolean> => {
    const root = readFileSync(join(folder, "meshca-recovery-root.pem"), "utf8").trim();
    return some.every((service) =>
      readFileSync(join(service.folder, "ca.crt"), "utf8").includes(root),
    );
  };

  /** Waits until these services shake hands with each other. */
  const handsOf = (some: readonly Service[]): Promise<void> =>
    come(async () => (await handshakesIn(some)) === some.length);
});

/** Waits for as long as the root of the longest life takes. */
async function come(holds: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 100));
}
