/**
 * What a rotation is tried on: a CA process spoken to over HTTP, workloads with keys of every kind,
 * and processes of TLS peers.
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { opensslCsr } from "../fakes/ca.ts";
import type { AttemptCommand, Command, Outcome } from "./peers-child.ts";

/** A root set as a peer fetched it. */
export interface Roots {
  readonly name: string;
  readonly ca: readonly string[];
}

export interface Leaf {
  readonly name: string;
  /** PEM of the leaf only. */
  readonly own: string;
  /** PEM of the intermediates presented with it. */
  readonly chain: string;
  readonly key: string;
  readonly uri: string;
  readonly serial: string;
}

export interface Holding {
  readonly leaf: Leaf;
  readonly roots: Roots;
}

/** A workload with its key, which asks for a leaf again and again. */
export interface Identity {
  readonly uri: string;
  readonly csr: string;
  readonly key: string;
}

/** openssl's arguments for every kind of key that a workload brings here. */
export const SUBJECT_KEYS: readonly (readonly string[])[] = [
  ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
  ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
  ["-newkey", "rsa:2048"],
];

/** As many workloads as asked for, the kinds of keys in turn. */
export function createIdentities(trustDomain: string, count: number): Identity[] {
  return Array.from({ length: count }, (_, number) => {
    const uri = `spiffe://${trustDomain}/ns/default/dc/dc1/svc/peer-${number}`;
    return { uri, ...opensslCsr(`URI:${uri}`, SUBJECT_KEYS[number % SUBJECT_KEYS.length]) };
  });
}

let named = 0;
/** A name that no other leaf or root set has, fit for a server name. */
export const newName = (): string => `n${++named}`;

/** A leaf from the PEM that the CA answered with. */
export function leafOf(identity: Identity, pem: string, serial: string): Leaf {
  const end = "-----END CERTIFICATE-----\n";
  const length = pem.indexOf(end) + end.length;
  return {
    name: newName(),
    own: pem.slice(0, length),
    chain: pem.slice(length),
    key: identity.key,
    uri: identity.uri,
    serial,
  };
}

interface WireRoots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly {
    ID: string;
    RootCert: string;
    PrivateKeyType: string;
    PrivateKeyBits: number;
  }[];
}

interface WireLeaf {
  readonly SerialNumber: string;
  readonly CertPEM: string;
}

export interface CaProcess {
  roots(): Promise<WireRoots>;
  sign(identity: Identity): Promise<Leaf>;
  configure(changes: Readonly<Record<string, unknown>>): Promise<void>;
  rotate(): Promise<void>;
  /** Makes a retired root the active one again. */
  rollBack(id: string): Promise<void>;
  /** Changes to a provider with a configuration of its own. */
  switchTo(provider: string, config: Readonly<Record<string, unknown>>): Promise<void>;
  close(): Promise<void>;
}

/** Runs `meshca serve` over a data folder of its own. */
export async function serveCa(): Promise<CaProcess> {
  const folder = newFolder();
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url)), "serve"],
    {
      env: {
        PATH: process.env.PATH,
        MESHCA_LISTEN: "127.0.0.1:0",
        MESHCA_DATA_DIR: folder,
        MESHCA_MAX_CHAIN_LENGTH: "16",
      },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const url = await new Promise<string>((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`The CA ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const match = /"message":"Ready".*"url":"([^"]+)"/.exec(line);
      if (match?.[1] !== undefined) resolve(match[1]);
    });
  });
  const call = async (method: "GET" | "PUT", path: string, sent?: unknown): Promise<string> => {
    const body =
      sent === undefined
        ? {}
        : { body: JSON.stringify(sent), headers: { "Content-Type": "application/json" } };
    const response = await fetch(`${url}/v1/connect/ca/${path}`, { method, ...body });
    const text = await response.text();
    assert.equal(response.status, 200, `${method} ${path}: ${text}`);
    return text;
  };
  return {
    roots: async () => JSON.parse(await call("GET", "roots")) as WireRoots,
    async sign(identity) {
      const { CertPEM, SerialNumber } = JSON.parse(
        await call("PUT", "sign", { CSR: identity.csr }),
      ) as WireLeaf;
      return leafOf(identity, CertPEM, SerialNumber);
    },
    async configure(changes) {
      const { Provider, Config } = JSON.parse(await call("GET", "configuration")) as {
        Provider: string;
        Config: object;
      };
      await call("PUT", "configuration", { Provider, Config: { ...Config, ...changes } });
    },
    async rotate() {
      await call("PUT", "rotate", {});
    },
    async rollBack(id) {
      await call("PUT", "rollback", { To: id });
    },
    async switchTo(Provider, Config) {
      await call("PUT", "configuration", { Provider, Config });
    },
    async close() {
      await ended(child);
      remove(folder);
    },
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGTERM");
  await exit;
}

export interface Peers {
  /** One full mutual handshake over a new connection. @returns why it failed, or null. */
  attempt(server: Holding, client: Holding): Promise<string | null>;
  close(): Promise<void>;
}

/**
 * Starts processes of TLS peers; handshakes go to them in turn.
 * @param program the runtime that they run on. @default this one
 */
export async function startPeers(
  processes: number,
  program: string = process.execPath,
): Promise<Peers> {
  const started = await Promise.all(
    Array.from({ length: processes }, () => startPeerProcess(program)),
  );
  let turn = 0;
  return {
    attempt: (server, client) => (started[turn++ % processes] as Peers).attempt(server, client),
    close: async () => void (await Promise.all(started.map((peers) => peers.close()))),
  };
}

const ENDED = "the peers' process ended";

async function startPeerProcess(execPath: string): Promise<Peers> {
  const script = fileURLToPath(new URL("./peers-child.ts", import.meta.url));
  const child = fork(script, { execPath });
  const waiting = new Map<number, (fault: string | null) => void>();
  const told = new Set<string>();
  let attempts = 0;
  const ready = new Promise<string | null>((resolve) => waiting.set(-1, resolve));
  child.on("message", ({ id, fault }: Outcome) => {
    waiting.get(id)?.(fault);
    waiting.delete(id);
  });
  child.on("exit", () => {
    for (const give of waiting.values()) give(ENDED);
  });
  const send = (command: Command) => void child.send(command);
  /** Tells the process about a leaf or a root set, once. */
  const announce = ({ leaf, roots }: Holding) => {
    if (!told.has(leaf.name)) {
      const { name, own, chain, key, uri, serial } = leaf;
      send({ kind: "leaf", name, cert: own + chain, key, uri, serial });
    }
    if (!told.has(roots.name)) send({ kind: "roots", ...roots });
    told.add(leaf.name).add(roots.name);
    return { leaf: leaf.name, roots: roots.name };
  };
  assert.equal(await ready, null);
  return {
    async attempt(server, client) {
      if (!child.connected) return ENDED;
      const command: AttemptCommand = {
        kind: "attempt",
        id: ++attempts,
        server: announce(server),
        client: announce(client),
      };
      const outcome = new Promise<string | null>((resolve) => waiting.set(command.id, resolve));
      send(command);
      return outcome;
    },
    close: () => ended(child),
  };
}

/** Works through items, a number of them at a time. */
export async function inLanes<T, R>(
  lanes: number,
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async () => {
    while (next < items.length) {
      const at = next++;
      results[at] = await work(items[at] as T);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return results;
}

/** Runs `work` with a temporary folder that is removed afterwards. */
export async function inNewFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = newFolder();
  try {
    await work(folder);
  } finally {
    remove(folder);
  }
}

export const newFolder = (): string => mkdtempSync(join(tmpdir(), "meshca-rotation-"));
export const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true });
