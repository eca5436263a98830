/**
 * The real agent with many identities, each on a socket of its own, and the figures of its process.
 * @module
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { cpuSeconds, memory } from "./proc.ts";

export interface AgentRun {
  readonly pid: number;
  /** Where its sockets are. */
  readonly folder: string;
  /** Milliseconds from the moment when its sockets listened to its last first leaf. */
  readonly firstLeavesMs: number;
  /** Seconds of CPU that it took until its sockets listened, and then until the last first leaf. */
  readonly cpu: { readonly before: number; readonly leaves: number };
  memory(): { now: number; peak: number };
  cpuSeconds(): number;
  stop(): Promise<void>;
}

/** The socket of an identity. */
export const socketOf = (folder: string, i: number): string => join(folder, `${i}.sock`);

/**
 * Starts `meshca agent` and waits until every identity has a leaf.
 * @param command the runtime, with its options. @param folder that only this user can enter
 */
export async function startAgent(
  command: readonly string[],
  port: string,
  folder: string,
  count: number,
): Promise<AgentRun> {
  const file = join(folder, "agent.json");
  const numbers = Array.from({ length: count }, (_, i) => i);
  writeFileSync(
    file,
    JSON.stringify({
      servers: [`http://127.0.0.1:${port}`],
      identities: numbers.map((i) => ({ service: `bench-${i}` })),
      sockets: numbers.map((i) => ({ path: socketOf(folder, i), identities: [`bench-${i}`] })),
    }),
  );
  const child = Bun.spawn(
    [...command, join(import.meta.dir, "../src/cli/main.ts"), "agent", "--config", file],
    { stdout: "pipe", stderr: "inherit" },
  );
  const kill = () => child.kill();
  process.once("exit", kill);
  const first = await untilLeaves(child.stdout, child.pid, count);
  return {
    pid: child.pid,
    folder,
    ...first,
    memory: () => memory(child.pid),
    cpuSeconds: () => cpuSeconds(child.pid),
    async stop() {
      process.removeListener("exit", kill);
      child.kill();
      await child.exited;
    },
  };
}

/** Reads the log until there were so many leaves; the times are those of its lines. */
async function untilLeaves(
  output: ReadableStream<Uint8Array>,
  pid: number,
  count: number,
): Promise<Pick<AgentRun, "firstLeavesMs" | "cpu">> {
  const decoder = new TextDecoder();
  let text = "";
  let [from, before, leaves] = [0, 0, 0];
  const reader = output.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new TypeError("The agent ended");
    text += decoder.decode(value, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) {
      const { message, "@timestamp": time } = JSON.parse(line) as Record<string, string>;
      if (message === "Waiting for roots and certificates") {
        from = Date.parse(time ?? "");
        before = cpuSeconds(pid);
      }
      if (message === "Received a leaf" && ++leaves === count) {
        const cpu = { before, leaves: cpuSeconds(pid) - before };
        // What is not read would stop the agent.
        reader.releaseLock();
        void output.pipeTo(new WritableStream());
        return { firstLeavesMs: Date.parse(time ?? "") - from, cpu };
      }
    }
  }
}
