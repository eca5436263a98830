/**
 * What it costs to have the root in Vault: in one run, in turn, on the same cores, against the same
 * Vault.
 *
 * - Vault itself: its sign endpoint, asked directly
 * - LeafSigning vault: the same leaves through meshca
 * - LeafSigning local, and the built-in provider: leaves and seconds of CPU for each
 *
 * `bun bench/vault.ts [openbao|vault]`; with VAULT_ADDR and VAULT_TOKEN, the server that is there.
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startVault, type VaultKind, vaultKinds } from "../test/vault/server.ts";
import { median } from "./figures.ts";
import { type BenchRequest, CLUSTER, makeRequests } from "./requests.ts";
import { type BenchServer, startServer } from "./server.ts";

const IN_FLIGHT = 32;
const ROUNDS = 5;
const WARM_UP = 1;
const SECONDS = 3;

interface CpuRate {
  readonly rate: number;
  readonly cpuMs: number;
}

type Ask = (request: BenchRequest) => Promise<Response>;

/**
 * Sends requests for SECONDS, IN_FLIGHT at once.
 * @returns how many were answered, and in how many seconds
 */
async function load(
  requests: readonly BenchRequest[],
  ask: Ask,
): Promise<{ count: number; seconds: number }> {
  const started = performance.now();
  const end = started + SECONDS * 1000;
  let count = 0;
  const worker = async () => {
    while (performance.now() < end) {
      const answer = await ask(requests[count++ % requests.length] as BenchRequest);
      const text = await answer.text();
      if (answer.status !== 200) throw new TypeError(`${answer.status} ${text}`);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  return { count, seconds: (performance.now() - started) / 1000 };
}

const kind = (process.argv[2] ?? vaultKinds[0]) as VaultKind;
const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
const vault = await startVault({ kind });
const servers: BenchServer[] = [];
const start = async (provider: string, config: object): Promise<BenchServer> => {
  const server = await startServer(
    mkdtempSync(join(folder, "ca-")),
    { ...config, cluster_id: CLUSTER },
    { provider },
  );
  servers.push(server);
  return server;
};
try {
  const inVault = (signing: string) => ({
    Address: vault.address,
    Token: vault.token,
    RootPKIPath: `root-${signing}`,
    IntermediatePKIPath: `int-${signing}`,
    LeafSigning: signing,
  });
  const remote = await start("vault", inVault("vault"));
  const local = await start("vault", inVault("local"));
  const builtIn = await start("consul", {});
  const { data } = await vault.must("GET", "int-vault/config/issuers");
  const direct: Ask = ({ pem, uri }) =>
    fetch(`${vault.address}/v1/int-vault/issuer/${data.default}/sign/leaf-cert`, {
      method: "POST",
      headers: { "X-Vault-Token": vault.token },
      body: JSON.stringify({ csr: pem, uri_sans: uri, ttl: "259140s" }),
    });
  const through =
    ({ port }: BenchServer): Ask =>
    ({ pem }) =>
      fetch(`http://127.0.0.1:${port}/v1/connect/ca/sign`, { method: "PUT", body: pem });
  const requests = await makeRequests();
  const leafCpu = async (server: BenchServer) => {
    const before = server.cpuSeconds();
    const { count, seconds } = await load(requests, through(server));
    return { rate: count / seconds, cpuMs: ((server.cpuSeconds() - before) * 1000) / count };
  };

  const rounds: { own: number; meshca: number; held: CpuRate; built: CpuRate }[] = [];
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const own = await load(requests, direct);
    const meshca = await load(requests, through(remote));
    const [held, built] = [await leafCpu(local), await leafCpu(builtIn)];
    if (round >= WARM_UP)
      rounds.push({
        own: own.count / own.seconds,
        meshca: meshca.count / meshca.seconds,
        held,
        built,
      });
  }
  const of = (value: (round: (typeof rounds)[number]) => number) => median(rounds.map(value));
  console.log(
    `\n${vault.kind}, P-256 leaves, ${IN_FLIGHT} in flight, ${ROUNDS} rounds of ${SECONDS} s, medians`,
  );
  console.table({
    "Vault itself": {
      "leaves/s": Math.round(of(({ own }) => own)),
      "CPU ms a leaf": "",
      ratio: "",
      target: "",
    },
    "LeafSigning vault": {
      "leaves/s": Math.round(of(({ meshca }) => meshca)),
      "CPU ms a leaf": "",
      ratio: `${(100 * of(({ own, meshca }) => meshca / own)).toFixed(0)} % of Vault's rate`,
      target: ">= 80 %",
    },
    "built-in": {
      "leaves/s": Math.round(of(({ built }) => built.rate)),
      "CPU ms a leaf": of(({ built }) => built.cpuMs).toFixed(3),
      ratio: "",
      target: "",
    },
    "LeafSigning local": {
      "leaves/s": Math.round(of(({ held }) => held.rate)),
      "CPU ms a leaf": of(({ held }) => held.cpuMs).toFixed(3),
      ratio: `${(100 * of(({ held, built }) => held.cpuMs / built.cpuMs)).toFixed(0)} % of the built-in provider's CPU`,
      target: "<= 105 %",
    },
  });
} finally {
  for (const server of servers) await server.stop();
  await vault.stop();
  rmSync(folder, { recursive: true, force: true });
}
