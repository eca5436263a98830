/**
 * The Worker as it is deployed: built by wrangler, served by workerd itself, with the compatibility
 * date and flags of wrangler.toml. Each isolate has a port of its own.
 * @module
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { ROOT } from "../fixtures/root.ts";
import { freePort } from "../redis/server.ts";

const BIN = join(ROOT, "node_modules/.bin");

export interface Bundle {
  /** The folder with worker.js and esbuild's meta.json. */
  readonly folder: string;
  readonly script: string;
  remove(): void;
}

/**
 * Builds the Worker as `wrangler deploy` would upload it. No network is needed.
 * @param entry another one than the deployed one. @throws {Error} when it cannot be built
 */
export function buildWorker(entry = "src/entry/worker.ts"): Bundle {
  const folder = mkdtempSync(join(tmpdir(), "meshca-worker-"));
  const args = [
    "deploy",
    entry,
    "--dry-run",
    "--outdir",
    folder,
    "--metafile",
    join(folder, "meta.json"),
  ];
  execFileSync(join(BIN, "node"), [join(ROOT, "node_modules/wrangler/bin/wrangler.js"), ...args], {
    cwd: ROOT,
    env: {
      PATH: `${BIN}:${process.env.PATH ?? ""}`,
      HOME: folder,
      CI: "true",
      WRANGLER_SEND_METRICS: "false",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return {
    folder,
    script: basename(entry).replace(/ts$/, "js"),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export type Bindings = Readonly<Record<string, string>>;

export interface WorkerOptions {
  readonly bundle: Bundle;
  /** One isolate each. */
  readonly isolates: readonly Bindings[];
  /** @default what wrangler.toml says */
  readonly flags?: readonly string[];
  /** @default what wrangler.toml says */
  readonly date?: string;
  /** PEM of a CA that the runtime trusts. @default the public ones */
  readonly trusted?: string;
  /** PEM of the certificate and the key that the isolates serve HTTPS with. @default plain HTTP */
  readonly tls?: { readonly cert: string; readonly key: string };
}

export interface RunningWorker {
  /** One for each isolate. */
  readonly urls: readonly string[];
  readonly pid: number;
  /** What it has written so far. */
  output(): string;
  /** Fires the cron trigger of an isolate. @returns its outcome */
  cron(isolate: number): Promise<string>;
  stop(): Promise<void>;
}

const setting = (name: string): string =>
  new RegExp(`^${name} = (.*)$`, "m").exec(
    readFileSync(join(ROOT, "wrangler.toml"), "utf8"),
  )?.[1] ?? "";

/** Calls the handler of the cron trigger, as the platform does. */
const CRON = `export default {
  async fetch(request, { WORKER }) {
    const { outcome } = await WORKER.scheduled({ scheduledTime: Date.now(), cron: "* * * * *" });
    return new Response(outcome);
  },
};`;

/** Starts workerd, and waits until it listens. @throws {Error} when it ends instead */
export async function startWorker({
  bundle,
  isolates,
  flags,
  date,
  trusted,
  tls,
}: WorkerOptions): Promise<RunningWorker> {
  const folder = mkdtempSync(join(tmpdir(), "meshca-workerd-"));
  const text = (value: string) => JSON.stringify(value);
  const compatibility = (more: readonly string[]) =>
    `compatibilityDate = ${date === undefined ? setting("compatibility_date") : text(date)}, compatibilityFlags = [${more.map(text).join(", ")}]`;
  const used = flags ?? (JSON.parse(setting("compatibility_flags")) as string[]);
  const ports = await Promise.all(isolates.flatMap(() => [freePort(), freePort()]));
  const services = isolates.map(
    (bindings, i) => `
    (name = "worker${i}", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      ${compatibility(used)},
      bindings = [${Object.entries(bindings)
        .map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`)
        .join(", ")}],
    )),
    (name = "cron${i}", worker = (
      modules = [(name = "cron.js", esModule = embed "cron.js")],
      ${compatibility(["service_binding_extra_handlers"])},
      bindings = [(name = "WORKER", service = "worker${i}")],
    )),`,
  );
  const https = (pair: NonNullable<typeof tls>) =>
    `https = (options = (), tlsOptions = (keypair = (privateKey = ${text(pair.key)}, certificateChain = ${text(pair.cert)})))`;
  const sockets = isolates.flatMap((_, i) =>
    ["worker", "cron"].map(
      (name, j) =>
        `(name = "${name}${i}", address = "127.0.0.1:${ports[2 * i + j]}", ${tls !== undefined && name === "worker" ? https(tls) : "http = ()"}, service = "${name}${i}")`,
    ),
  );
  const trust =
    trusted === undefined ? "trustBrowserCas = true" : `trustedCertificates = [${text(trusted)}]`;
  writeFileSync(join(folder, "worker.js"), readFileSync(join(bundle.folder, bundle.script)));
  writeFileSync(join(folder, "cron.js"), CRON);
  writeFileSync(
    join(folder, "config.capnp"),
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (${trust}))),${services.join("")}
  ],
  sockets = [${sockets.join(", ")}],
);
`,
  );
  const child: ChildProcess = spawn(
    join(ROOT, "node_modules/workerd/bin/workerd"),
    ["serve", "--experimental", "--control-fd=3", join(folder, "config.capnp")],
    {
      stdio: ["ignore", "pipe", "pipe", "pipe"],
    },
  );
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk;
    });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const listening = new Promise<void>((resolve) => {
    let events = "";
    child.stdio[3]?.on("data", (chunk: Buffer) => {
      events += chunk.toString();
      if (events.split('"listen"').length > sockets.length) resolve();
    });
  });
  await Promise.race([
    listening,
    ended.then(() => {
      throw new Error(`workerd ended instead of listening: ${output}`);
    }),
  ]);
  const url = (port: number | undefined) => `http://127.0.0.1:${port}`;
  const workerUrl = (port: number | undefined) =>
    tls === undefined ? url(port) : `https://localhost:${port}`;
  return {
    urls: isolates.map((_, i) => workerUrl(ports[2 * i])),
    pid: child.pid ?? 0,
    output: () => output,
    cron: async (isolate) => (await fetch(url(ports[2 * isolate + 1]))).text(),
    async stop() {
      child.kill("SIGKILL");
      await ended;
      process.removeListener("exit", kill);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/**
 * Milliseconds of CPU that all threads of a process had so far, to the nanosecond: proc(5),
 * schedstat.
 */
function cpuMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  return (
    threads.reduce(
      (sum, id) =>
        sum + Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, "utf8").split(" ")[0]),
      0,
    ) / 1e6
  );
}

/**
 * Milliseconds of CPU that an isolate takes to start, parsing and compiling included, more than one
 * that does nothing: the least of some runs, since other processes only add to it.
 */
export async function startupCpuMs(bundle: Bundle): Promise<number> {
  const [runs, isolates] = [10, 4];
  const empty = mkdtempSync(join(tmpdir(), "meshca-empty-"));
  writeFileSync(join(empty, bundle.script), "export default { fetch: () => new Response() };");
  const started = async (folder: string): Promise<number> => {
    const worker = await startWorker({
      bundle: { ...bundle, folder },
      isolates: Array.from({ length: isolates }, () => ({})),
    });
    const ms = cpuMs(worker.pid);
    await worker.stop();
    return ms / isolates;
  };
  let [nothing, all] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  try {
    for (let i = 0; i < runs; i++) {
      nothing = Math.min(nothing, await started(empty));
      all = Math.min(all, await started(bundle.folder));
    }
    return all - nothing;
  } finally {
    rmSync(empty, { recursive: true, force: true });
  }
}
