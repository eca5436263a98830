/**
 * An endpoint for workloads on a socket in a folder of its own, and its clients.
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WorkloadSocket, type WorkloadSocketOptions } from "../../src/agent/workload-socket.ts";
import { TestClient } from "./grpc-client.ts";
import { CountingMetrics, createTestSet, KeepingLog, type TestSet } from "./workload-set.ts";

export interface TestEndpoint {
  readonly path: string;
  readonly folder: string;
  readonly set: TestSet;
  readonly socket: WorkloadSocket;
  readonly metrics: CountingMetrics;
  readonly log: KeepingLog;
  readonly client: TestClient;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startEndpoint(
  services: readonly string[] = ["web"],
  options: Partial<WorkloadSocketOptions> & { empty?: boolean } = {},
): Promise<TestEndpoint> {
  const { empty = false, ...more } = options;
  const folder = mkdtempSync(join(tmpdir(), "meshca-socket-"));
  const path = join(folder, "web.sock");
  const set = await createTestSet(services, empty);
  const [metrics, log] = [new CountingMetrics(), new KeepingLog()];
  const { clock } = set.ca;
  const socket = new WorkloadSocket({ path, set, log, metrics, clock, ...more });
  await socket.listen();
  const client = new TestClient(`unix:${path}`);
  return {
    ...{ path, folder, set, socket, metrics, log, client },
    async [Symbol.asyncDispose]() {
      client.close();
      await socket.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Waits until a condition holds. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
