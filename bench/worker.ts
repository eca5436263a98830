/**
 * What a leaf costs on Workers: CPU of the workerd process by leaf, over HTTP, with access control
 * on and a real Redis; and what an isolate costs to start, compared with one that does nothing.
 *
 *     npm run bench:worker
 *
 * workerd enforces no limit of CPU time by itself; the platform's is for each request.
 * @module
 */
import { makeKek } from "../src/seal/kek.ts";
import { opensslCsr } from "../test/fakes/ca.ts";
import { startRedis } from "../test/redis/server.ts";
import { type Bundle, buildWorker, startupCpuMs, startWorker } from "../test/runtimes/workerd.ts";
import { cpuSeconds } from "./proc.ts";

const TOKEN = "0123456789abcdef0123456789abcdef";
const [WARM_UP, LEAVES, AT_ONCE] = [500, 4000, 16];

const redis = await startRedis({ config: ["appendonly yes"] });
const bundle: Bundle = buildWorker();
try {
  const bindings = {
    MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
    MESHCA_KEK: makeKek(),
    MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
  };
  const worker = await startWorker({ bundle, isolates: [bindings] });
  try {
    const [url = ""] = worker.urls;
    const { TrustDomain } = (await (await fetch(`${url}/v1/connect/ca/roots`)).json()) as {
      TrustDomain: string;
    };
    const body = opensslCsr(`URI:spiffe://${TrustDomain}/ns/default/dc/dc1/svc/web`).csr;
    const sign = async (leaves: number) => {
      let left = leaves;
      const one = async () => {
        while (left-- > 0) {
          const answer = await fetch(`${url}/v1/connect/ca/sign`, {
            method: "PUT",
            body,
            headers: { "X-Consul-Token": TOKEN },
          });
          if (answer.status !== 200) throw new Error(`A leaf was answered ${answer.status}`);
          await answer.arrayBuffer();
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, one));
    };
    await sign(WARM_UP);
    const [cpu, started] = [cpuSeconds(worker.pid), performance.now()];
    await sign(LEAVES);
    const seconds = (performance.now() - started) / 1000;
    const each = ((cpuSeconds(worker.pid) - cpu) / LEAVES) * 1000;
    console.log(
      `leaves: ${Math.round(LEAVES / seconds)}/s over HTTP, ${each.toFixed(2)} ms of CPU each`,
    );
  } finally {
    await worker.stop();
  }
  console.log(`start: ${(await startupCpuMs(bundle)).toFixed(0)} ms of CPU for an isolate`);
} finally {
  bundle.remove();
  await redis.stop();
}
