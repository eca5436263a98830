/**
 * Workloads in a process of their own: each has a gRPC connection to a socket of the agent with an
 * open stream of FetchX509SVID. Prints `ready` when each has its first message, then, when each has
 * one with more roots, when these came in: a JSON array of milliseconds since 1970.
 * @module
 */
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { protocol, WORKLOAD_API } from "../src/agent/proto.ts";
import { socketOf } from "./agent-process.ts";

const [folder = "", number = "0"] = process.argv.slice(2);
const count = Number(number);
const metadata = new Metadata();
metadata.set("workload.spiffe.io", "true");

const service = protocol()[WORKLOAD_API];
const method = service !== undefined && "FetchX509SVID" in service ? service.FetchX509SVID : null;
if (method === null || typeof method !== "object" || !("path" in method))
  throw new TypeError("There is no FetchX509SVID");

interface Response {
  readonly svids: readonly { readonly bundle: Buffer }[];
}
const read = (bytes: Buffer) => method.responseDeserialize(bytes) as Response;

const firsts: number[] = [];
const answeredAt: number[] = [];
/** Opens a stream. @returns at its first message */
const open = (i: number) =>
  new Promise<void>((resolve, reject) => {
    const client = new Client(`unix:${socketOf(folder, i)}`, credentials.createInsecure());
    const call = client.makeServerStreamRequest(
      method.path,
      () => Buffer.alloc(0),
      read,
      {},
      metadata,
    );
    call.on("error", reject);
    call.on("data", ({ svids }: Response) => {
      const length = svids[0]?.bundle.length ?? 0;
      const before = firsts[i];
      if (before === undefined) {
        firsts[i] = length;
        resolve();
      } else if (length > before) {
        firsts[i] = Number.POSITIVE_INFINITY;
        answeredAt.push(performance.timeOrigin + performance.now());
        if (answeredAt.length === count) console.log(JSON.stringify(answeredAt));
      }
    });
  });
for (let from = 0; from < count; from += 50)
  await Promise.all(Array.from({ length: Math.min(50, count - from) }, (_, i) => open(from + i)));
console.log("ready");
