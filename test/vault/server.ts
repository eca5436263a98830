/**
 * Real servers of Vault's API for tests: OpenBao and Vault, built from source, each on a free port
 * of loopback, removed with the test. With VAULT_ADDR and VAULT_TOKEN the tests run against the
 * server that is there instead.
 * @module
 */
import { type ChildProcess, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { freePort, startProgram, until } from "../redis/server.ts";
import { VAULT_KINDS, type VaultKind, vaultProgram } from "../servers/build.ts";

export type { VaultKind };

/** The server that VAULT_ADDR names. Tests must not seal, stop or restart it. */
const given = process.env.VAULT_ADDR ?? "";

/**
 * Why the tests that need any server of Vault's API cannot run here, or false. With CI=true nothing
 * is skipped.
 */
export const noVault: string | false = (() => {
  if (process.env.CI === "true" || given !== "") return false;
  return withoutGo();
})();

/**
 * The same for tests that seal, stop or start the server, and those of features that only one kind
 * has.
 */
export const noOwnVault: string | false = (() => {
  if (process.env.CI === "true") return false;
  return withoutGo();
})();

function withoutGo(): string | false {
  try {
    execFileSync("go", ["version"]);
    return false;
  } catch {
    return "Go is not installed, and VAULT_ADDR names no server";
  }
}

/** What a suite is repeated for: each server that is built, or the one that is given. */
export const vaultKinds: readonly (VaultKind | "given")[] = given === "" ? VAULT_KINDS : ["given"];

/** How long a `before` hook may take that has to build a server first, in milliseconds. */
export const BUILD_MS = 1_200_000;

export interface VaultAnswer {
  readonly status: number;
  /** The parsed JSON, the text if it is not JSON, null if there is no body. */
  // biome-ignore lint/suspicious/noExplicitAny: tests read any field of a server's response
  readonly body: any;
}

export interface VaultServer {
  readonly kind: VaultKind | "given";
  /** `http://127.0.0.1:PORT`, or https with `tls`. */
  readonly address: string;
  readonly port: number;
  /** The root token. */
  readonly token: string;
  /**
   * One call as it is, without any client: by default with the root token and in the root
   * namespace.
   */
  call(
    method: string,
    path: string,
    body?: unknown,
    as?: { token?: string; namespace?: string },
  ): Promise<VaultAnswer>;
  /**
   * The same, for what must succeed.
   * @returns the body.
   * @throws if the status is not 200 or 204
   */
  must(
    method: string,
    path: string,
    body?: unknown,
    as?: { token?: string; namespace?: string },
  ): Promise<VaultAnswer["body"]>;
  /**
   * A token with a policy of its own, in HCL.
   * @param fields of `auth/token/create`, for example ttl.
   */
  tokenWith(policy: string, fields?: Readonly<Record<string, unknown>>): Promise<string>;
  seal(): Promise<void>;
  unseal(): Promise<void>;
  kill(signal: "SIGKILL" | "SIGCONT" | "SIGTERM"): void;
  /**
   * Stops it without an end, until SIGCONT. It answers until the system has come to all of its
   * threads, which is awaited.
   */
  suspend(): Promise<void>;
  /**
   * Starts it again on its port after it was killed or stopped, and unseals it. What was in memory
   * is gone.
   */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface VaultServerOptions {
  readonly kind: VaultKind | "given";
  /** On disk, so that a restart keeps what is stored. */
  readonly durable?: boolean;
  /** TLS with these PEM files; clients may show a certificate. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
}

/**
 * A server for the tests of a suite: its hooks start and stop it.
 * @returns its properties, to be read by tests and later hooks only
 */
export function useVault(options: VaultServerOptions): VaultServer {
  let server: VaultServer | undefined;
  before(
    async () => {
      server = await startVault(options);
    },
    { timeout: BUILD_MS },
  );
  after(() => server?.stop());
  return new Proxy({} as VaultServer, {
    get(_, name: keyof VaultServer) {
      if (server === undefined) throw new Error("The server is not started yet");
      return server[name];
    },
  });
}

/**
 * Enables approle logins on a server, with one role.
 * @param fields of the role.
 * @returns the mount, and the credentials.
 */
export async function enableApprole(
  server: VaultServer,
  fields: Readonly<Record<string, unknown>>,
): Promise<{ MountPath: string; role_id: string; secret_id: string }> {
  const MountPath = `approle-${crypto.randomUUID().slice(0, 8)}`;
  await server.must("POST", `sys/auth/${MountPath}`, { type: "approle" });
  const path = `auth/${MountPath}/role/mesh`;
  await server.must("POST", path, fields);
  const { role_id } = (await server.must("GET", `${path}/role-id`)).data;
  const { secret_id } = (await server.must("POST", `${path}/secret-id`, {})).data;
  return { MountPath, role_id, secret_id };
}

/** Starts a server, initialised and unsealed. Give the hook that calls it BUILD_MS. */
export async function startVault(options: VaultServerOptions): Promise<VaultServer> {
  return options.kind === "given" ? givenServer() : startOwn({ ...options, kind: options.kind });
}

function caller(
  address: string,
  root: () => string,
  ca: string | undefined,
): Pick<VaultServer, "call" | "must" | "tokenWith"> {
  const call: VaultServer["call"] = async (
    method,
    path,
    body,
    { token = root(), namespace } = {},
  ) => {
    const headers = {
      "X-Vault-Token": token,
      ...(namespace === undefined ? {} : { "X-Vault-Namespace": namespace }),
    };
    const payload = body === undefined ? {} : { body: JSON.stringify(body) };
    const tls = ca === undefined ? {} : { tls: { ca } };
    const answer = await fetch(`${address}/v1/${path}`, { method, headers, ...payload, ...tls });
    const text = await answer.text();
    return {
      status: answer.status,
      body:
        answer.headers.get("Content-Type")?.includes("json") && text !== ""
          ? JSON.parse(text)
          : text || null,
    };
  };
  const must: VaultServer["must"] = async (method, path, body, as) => {
    const answer = await call(method, path, body, as);
    if (answer.status !== 200 && answer.status !== 204)
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  return {
    call,
    must,
    async tokenWith(policy, fields = {}) {
      const name = `test-${crypto.randomUUID()}`;
      await must("PUT", `sys/policies/acl/${name}`, { policy });
      const { auth } = await must("POST", "auth/token/create", {
        policies: [name],
        no_parent: true,
        ...fields,
      });
      return auth.client_token;
    },
  };
}

function givenServer(): VaultServer {
  const refuse = async () => {
    throw new Error("The server that VAULT_ADDR names is not the tests' own");
  };
  const token = process.env.VAULT_TOKEN ?? "";
  const address = given.replace(/\/+$/, "");
  return {
    kind: "given",
    address,
    port: Number(new URL(address).port),
    token,
    ...caller(address, () => token, undefined),
    seal: refuse,
    unseal: refuse,
    kill: () => void refuse(),
    suspend: refuse,
    restart: refuse,
    stop: async () => undefined,
  };
}

async function startOwn({
  kind,
  durable = false,
  tls,
}: VaultServerOptions & { kind: VaultKind }): Promise<VaultServer> {
  const program = await vaultProgram(kind);
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "meshca-vault-"));
  const address = `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`;
  const args = argumentsOf(kind, { port, folder, durable, tls });
  let child = startProgram(program, args);
  let token = "";
  let key = "";
  const talk = caller(address, () => token, tls?.ca);

  const unseal = async () => {
    await talk.must("PUT", "sys/unseal", { key });
    // A single server takes a moment to become the active one.
    await until(async () => (await talk.call("GET", "sys/health")).status === 200);
  };
  const begin = async () => {
    const { promise: ended, reject } = Promise.withResolvers<never>();
    const onExit = (code: number | null) => reject(new Error(`${kind} ended with ${code}`));
    child.once("exit", onExit);
    ended.catch(() => undefined);
    const answers = until(async () => {
      const answer = await talk.call("GET", "sys/seal-status").catch(() => null);
      return answer?.status === 200 || (answer?.status === 400 && kind === "vault");
    });
    await Promise.race([answers, ended]);
    child.removeListener("exit", onExit);
    const { initialized } = await talk.must("GET", "sys/init");
    if (!initialized) {
      const { keys_base64: keys, root_token } = await talk.must("PUT", "sys/init", {
        secret_shares: 1,
        secret_threshold: 1,
      });
      key = keys[0];
      token = root_token;
    }
    await unseal();
  };
  const end = (): Promise<unknown> =>
    child.exitCode !== null || child.signalCode !== null
      ? Promise.resolve()
      : new Promise((resolve) => child.once("exit", resolve));
  const signal = (name: Parameters<ChildProcess["kill"]>[0]) => void child.kill(name);

  await begin();
  return {
    kind,
    address,
    port,
    get token() {
      return token;
    },
    ...talk,
    seal: async () => void (await talk.must("PUT", "sys/seal")),
    unseal,
    kill: signal,
    async suspend() {
      signal("SIGSTOP");
      await until(() =>
        /^(T\S*\n)+$/.test(
          execFileSync("ps", ["-L", "-o", "state=", "-p", String(child.pid)], { encoding: "utf8" }),
        ),
      );
    },
    async restart() {
      signal("SIGKILL");
      await end();
      child = startProgram(program, args);
      await begin();
    },
    async stop() {
      signal("SIGKILL");
      await end();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface Arguments {
  readonly tls: VaultServerOptions["tls"] | undefined;
  readonly port: number;
  readonly folder: string;
  readonly durable: boolean;
}

/** The command line of a server; its files are written into its folder. */
function argumentsOf(kind: VaultKind, { port, folder, durable, tls }: Arguments): string[] {
  const files = {
    cert: join(folder, "cert.pem"),
    key: join(folder, "key.pem"),
    data: join(folder, "data"),
  };
  if (durable) mkdirSync(files.data);
  if (tls !== undefined) {
    writeFileSync(files.cert, tls.cert);
    writeFileSync(files.key, tls.key);
  }
  if (kind === "vault") {
    const encrypted = tls === undefined ? [] : ["-tls-cert", files.cert, "-tls-key", files.key];
    return [
      "-listen",
      `127.0.0.1:${port}`,
      ...encrypted,
      ...(durable ? ["-data", files.data] : []),
    ];
  }
  const config = {
    storage: durable ? { file: { path: files.data } } : { inmem: {} },
    listener: {
      tcp: {
        address: `127.0.0.1:${port}`,
        ...(tls === undefined
          ? { tls_disable: true }
          : { tls_cert_file: files.cert, tls_key_file: files.key }),
      },
    },
    log_level: "warn",
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  return ["server", `-config=${join(folder, "config.json")}`];
}
