/**
 * What access control costs: CPU of the server process per leaf, denied by default with 10,000
 * tokens and 1,000 policies, compared with a server without it; in one run, in turn, on the same
 * cores.
 * @module
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./figures.ts";
import { type Loaded, loaded } from "./loaded.ts";
import { type BenchRequest, CLUSTER, makeRequests, writeBodies } from "./requests.ts";
import { type BenchServer, startServer } from "./server.ts";

const PAIRS = 9;
/**
 * Of each server: what a compiler and a collector make of a process differs from one to the next by
 * more than the target.
 */
const STARTS = 3;
const SECONDS = 2;
const CONNECTIONS = 64;
const [TOKENS, POLICIES] = [10_000, 1000];
const MANAGEMENT = crypto.randomUUID();
const ACCESS = { MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT };

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
const running: BenchServer[] = [];
try {
  await measure();
} finally {
  await stopAll();
  rmSync(folder, { recursive: true, force: true });
}
process.exit();

interface Figures {
  readonly cpu: number[];
  readonly rates: number[];
}

async function launch(
  environment: Readonly<Record<string, string>>,
  dataDir: string,
): Promise<BenchServer> {
  const server = await startServer(dataDir, { cluster_id: CLUSTER }, { environment });
  running.push(server);
  return server;
}

async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((server) => server.stop()));
}

async function measure(): Promise<void> {
  const requests = await makeRequests();
  const bodies = writeBodies(folder, requests);
  const [openDir, deniedDir] = [mkdtempSync(join(folder, "ca-")), mkdtempSync(join(folder, "ca-"))];
  const tokens = await writeTokens(await launch(ACCESS, deniedDir), requests);
  // Whoever has written all that is not measured: its compiled code is of other work than signing.
  await stopAll();
  const load = { connections: CONNECTIONS, seconds: SECONDS };
  const [open, denied]: [Figures, Figures] = [
    { cpu: [], rates: [] },
    { cpu: [], rates: [] },
  ];
  for (let start = 0; start < STARTS; start++) {
    const servers: [Loaded, Loaded] = [
      loaded(await launch({ MESHCA_ACL: "off" }, openDir), bodies, load),
      loaded(await launch(ACCESS, deniedDir), tokens, load),
    ];
    for (const server of servers) await server.warmUp();
    // In turn forwards and backwards, so that none is always the first.
    for (let pair = 0; pair < PAIRS / STARTS; pair++)
      for (const server of pair % 2 === 0 ? servers : servers.toReversed()) await server.sign();
    for (const server of servers) server.close();
    for (const [figures, { cpu, rates }] of [
      [open, servers[0]],
      [denied, servers[1]],
    ] as const) {
      figures.cpu.push(...cpu);
      figures.rates.push(...rates);
    }
    await stopAll();
  }
  const ratios = denied.cpu.map((value, i) => value / (open.cpu[i] ?? Number.NaN));
  const row = ({ cpu, rates }: Figures) => ({
    "CPU s per 1,000 leaves": median(cpu).toFixed(4),
    "leaves/s": Math.round(median(rates)),
  });
  console.log(
    `\nLeaves, EC P-256, ${CONNECTIONS} connections, ${PAIRS} pairs of ${SECONDS} s on ${STARTS} starts of each server, medians`,
  );
  console.table({
    "access control off": { ...row(open), ratio: "", target: "" },
    [`deny, ${TOKENS} tokens, ${POLICIES} policies`]: {
      ...row(denied),
      ratio: median(ratios).toFixed(3),
      target: "<= 1.05",
    },
  });
  console.log(`ratios of the pairs: ${ratios.map((value) => value.toFixed(3)).join(" ")}`);
}

/**
 * Makes tokens, each with one of the policies, and writes the file with what each signs.
 * @returns its path
 */
async function writeTokens(
  server: BenchServer,
  requests: readonly BenchRequest[],
): Promise<string> {
  const put = async (path: string, body: object) => {
    const headers = { "X-Consul-Token": MANAGEMENT };
    const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, {
      method: "PUT",
      headers,
      body: JSON.stringify(body),
    });
    if (answer.status !== 200)
      throw new TypeError(`${path} answered ${answer.status}: ${await answer.text()}`);
    return (await answer.json()) as { ID: string; SecretID: string };
  };
  const policies: { readonly id: string; readonly pem: string }[] = [];
  for (let i = 0; i < POLICIES; i++) {
    const request = requests[i % requests.length] as BenchRequest;
    const service = request.uri.split("/").at(-1) ?? "";
    const Rules = [
      `service "${service}" { policy = "write" }`,
      `service "${service}-sidecar-proxy" { policy = "write" }`,
      `service_prefix "" { policy = "read" }`,
      `service_prefix "team-${i}-" { policy = "write" }`,
      `node_prefix "" { policy = "read" }`,
    ].join("\n");
    policies.push({
      id: (await put("/v1/acl/policy", { Name: `bench-${i}`, Rules })).ID,
      pem: request.pem,
    });
  }
  const bodies: { readonly pem: string; readonly token: string }[] = [];
  for (let i = 0; i < TOKENS; i++) {
    const { id, pem } = policies[i % policies.length] as (typeof policies)[number];
    bodies.push({ pem, token: (await put("/v1/acl/token", { Policies: [{ ID: id }] })).SecretID });
  }
  const file = join(folder, "tokens.json");
  writeFileSync(file, JSON.stringify(bodies));
  return file;
}
