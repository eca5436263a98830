/**
 * A mesh for clients that nobody here wrote: a server, an agent on a runtime, and scenarios that make
 * handshakes while the CA rotates through keys of several kinds.
 * @module
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AgentProcess, type AgentRuntime, startAgent } from "../fixtures/agent.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { fail } from "./failure.ts";
import type { Peer, Side } from "./peer.ts";
import type { RunningProgram } from "./programs.ts";

/** Not the default, so that a client that derives it from the cluster id fails. */
const TRUST_DOMAIN = "mesh.example";

/** The identities of an agent, each with a socket of its own. */
export const SERVICES = ["web", "api"] as const;
export type Service = (typeof SERVICES)[number];

/** A folder of credentials for a scenario. */
export interface FolderWish {
  readonly service: Service;
  readonly owner?: string;
  readonly onChange?:
    | { readonly command: readonly string[] }
    | { readonly signal: "HUP"; readonly pid_file: string };
}

/** What a scenario has to work with. */
export interface Site {
  /** A folder for it, which is there. */
  readonly folder: string;
  /** The paths of the sockets. */
  readonly sockets: Readonly<Record<Service, string>>;
  /** Host and port of the agent's listener. */
  readonly listen: string;
  /** The folder of a wish. */
  credentials(wish: string): string;
}

/** A scenario that runs. */
export interface Running {
  /** Clients, then servers: in this order they are stopped. */
  readonly peers: readonly Peer[];
  /** Which of them sees which leaf: each must see one of every new issuer. */
  readonly presents: readonly (readonly [peer: Peer, side: Side])[];
  /** Stopped after the peers. */
  readonly programs: readonly RunningProgram[];
}

export interface Scenario {
  readonly name: string;
  /** Folders of credentials that the agent keeps for it, by a name. */
  folders?(folder: string): Readonly<Record<string, FolderWish>>;
  start(site: Site): Promise<Running>;
}

export interface Outcome {
  readonly handshakes: number;
  readonly failures: readonly string[];
  /** What did not happen; null if every peer saw leaves of every issuer. */
  readonly missing: string | null;
}

/** The first key is the default one, EC P-256. */
const ROTATIONS = [
  ["rsa", 2048],
  ["ec", 384],
  ["ec", 256],
] as const;

/**
 * Of all peers to present a leaf of a new root: the window of a root change has 30 s
 * (docs/workloads.md), and the machine may be busy.
 */
const PATIENCE_MS = 300_000;
/** Handshakes of each peer after the last rotation. */
const LAST_HANDSHAKES = 20;

/** With a rate the window has its least length; without, four minutes even of a few leaves. */
const CSR_MAX_PER_SECOND = 1000;

interface RootsAnswer {
  readonly ActiveRootID: string;
  readonly Roots: readonly { readonly ID: string; readonly SigningKeyID: string }[];
}

async function activeKeyId(server: ServerProcess): Promise<string> {
  const answer = await fetch(`${server.url}/v1/connect/ca/roots`);
  const { ActiveRootID, Roots } = (await answer.json()) as RootsAnswer;
  return (
    Roots.find(({ ID }) => ID === ActiveRootID)?.SigningKeyID ?? fail("There is no active root")
  );
}

/** Replaces the root by one with another key. @returns its SigningKeyID */
export async function rotate(server: ServerProcess, type: "ec" | "rsa", bits: number) {
  const answer = await fetch(`${server.url}/v1/connect/ca/configuration`, {
    method: "PUT",
    body: JSON.stringify({
      Provider: "consul",
      Config: {
        PrivateKeyType: type,
        PrivateKeyBits: bits,
        CSRMaxPerSecond: CSR_MAX_PER_SECOND,
      },
    }),
  });
  if (!answer.ok) fail(`The rotation is answered with ${answer.status} ${await answer.text()}`);
  return activeKeyId(server);
}

/** The agent's configuration: an identity and a socket for each service, and the wished folders. */
function agentConfig(
  server: ServerProcess,
  folder: string,
  wishes: ReadonlyMap<string, FolderWish>,
): object {
  return {
    servers: [server.url],
    identities: SERVICES.map((service) => ({
      service,
      dns_names: [`${service}.service.consul`],
    })),
    sockets: SERVICES.map((service) => ({
      path: join(folder, `${service}.sock`),
      identities: [service],
    })),
    folders: [...wishes].map(([path, { service, owner, onChange }]) => ({
      path,
      identity: service,
      ...(owner === undefined ? {} : { owner }),
      ...(onChange === undefined ? {} : { on_change: onChange }),
    })),
    listen: "127.0.0.1:0",
  };
}

/** Runs scenarios concurrently through all rotations. @returns the outcome of each, by its name */
export async function runMesh(
  runtime: AgentRuntime,
  scenarios: readonly Scenario[],
): Promise<ReadonlyMap<string, Outcome>> {
  // Other users read what lies in it: the user that a server of PostgreSQL runs as.
  const folder = mkdtempSync(join(tmpdir(), "meshca-mesh-"));
  chmodSync(folder, 0o711);
  const settings = join(folder, "meshca.hcl");
  writeFileSync(
    settings,
    `connect { ca_config {
  trust_domain = "${TRUST_DOMAIN}"
  csr_max_per_second = ${CSR_MAX_PER_SECOND}
} }
`,
  );
  const wishes = new Map<string, FolderWish>();
  const config = join(folder, "agent.json");
  const own = (scenario: Scenario) => join(folder, scenario.name.replaceAll(/\W+/g, "-"));
  for (const scenario of scenarios) {
    mkdirSync(own(scenario));
    for (const [name, wish] of Object.entries(scenario.folders?.(own(scenario)) ?? {}))
      wishes.set(join(own(scenario), name), wish);
  }
  const server = await startServer({ MESHCA_CONFIG: settings });
  let agent: AgentProcess | null = null;
  const running = new Map<Scenario, Running>();
  try {
    writeFileSync(config, JSON.stringify(agentConfig(server, folder, wishes)));
    agent = await startAgent(["--config", config], { runtime });
    const listen = new URL(agent.url()).host;
    const missing = new Map<Scenario, string>();
    await Promise.all(
      scenarios.map(async (scenario) => {
        const site = {
          folder: own(scenario),
          sockets: { web: join(folder, "web.sock"), api: join(folder, "api.sock") },
          listen,
          credentials: (name: string) => join(own(scenario), name),
        };
        try {
          running.set(scenario, await scenario.start(site));
        } catch (error) {
          missing.set(scenario, `start: ${String(error)}`);
        }
      }),
    );
    await allRotations(server, running, missing);
    return await outcomes(scenarios, running, missing);
  } finally {
    for (const { peers, programs } of running.values())
      for (const each of [...peers, ...programs]) await each.stop().catch(() => undefined);
    await agent?.stop();
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Rotates, each time after every peer has seen what it must. @param missing gets what did not happen */
async function allRotations(
  server: ServerProcess,
  running: ReadonlyMap<Scenario, Running>,
  missing: Map<Scenario, string>,
): Promise<void> {
  const everywhere = async (what: string, of: (one: Running) => [string, Promise<unknown>][]) => {
    await Promise.all(
      [...running].map(async ([scenario, one]) => {
        if (missing.has(scenario)) return;
        const late = new Promise<never>((_, reject) => {
          setTimeout(() => reject(new Error("not in time")), PATIENCE_MS).unref();
        });
        late.catch(() => undefined);
        await Promise.all(
          of(one).map(async ([who, step]) => {
            await Promise.race([step, late]).catch((error: unknown) => {
              missing.set(scenario, `${what}: ${who}: ${String(error)}`);
            });
          }),
        );
      }),
    );
  };
  const leavesOf = (key: string, keyId: string) =>
    everywhere(`leaf below the root with a key of ${key}`, ({ presents }) =>
      presents.map(([peer, side]) => [`${peer.name}, ${side}`, peer.saw(side, keyId)]),
    );
  await leavesOf("ec 256, the first one", await activeKeyId(server));
  for (const [type, bits] of ROTATIONS)
    await leavesOf(`${type} ${bits}`, await rotate(server, type, bits));
  await everywhere("handshakes after the last rotation", ({ peers }) =>
    peers.map((peer) => [peer.name, peer.more(LAST_HANDSHAKES)]),
  );
}

async function outcomes(
  scenarios: readonly Scenario[],
  running: ReadonlyMap<Scenario, Running>,
  missing: ReadonlyMap<Scenario, string>,
): Promise<ReadonlyMap<string, Outcome>> {
  const results = new Map<string, Outcome>();
  for (const scenario of scenarios) {
    const { peers } = running.get(scenario) ?? { peers: [] };
    const ends: string[] = [];
    for (const peer of peers)
      await peer.stop().catch((error: unknown) => {
        ends.push(String(error));
      });
    const [reason = null] = [missing.get(scenario), ...ends].filter((text) => text !== undefined);
    if (reason !== null)
      for (const { output } of running.get(scenario)?.programs ?? [])
        console.error(`${scenario.name}: ${output()}`);
    results.set(scenario.name, {
      handshakes: Math.min(...peers.map(({ handshakes }) => handshakes)),
      failures: peers.flatMap(({ name, failures }) => failures.map((text) => `${name}: ${text}`)),
      missing: reason,
    });
  }
  return results;
}
