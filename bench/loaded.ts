/**
 * A server under load, round by round: what a leaf costs there.
 * @module
 */
import { startGenerator } from "./generator.ts";
import type { BenchServer } from "./server.ts";

/**
 * Leaves for each process that do not count: a compiler that learns while it runs needs some ten
 * thousand.
 */
const WARM_UP = 20_000;
/** A machine too slow for that is not waited for. */
const WARM_UP_ROUNDS = 6;

export interface Loaded {
  /**
   * CPU seconds per 1,000 leaves, leaves a second, and the share of the connections of whichever
   * process has the fewest: by round.
   */
  readonly cpu: number[];
  readonly rates: number[];
  readonly least: number[];
  warmUp(): Promise<void>;
  /** Signs for one round. @returns how many leaves */
  sign(): Promise<number>;
  close(): void;
}

/** @param bodies a file with what is sent, in turn. */
export function loaded(
  server: Pick<BenchServer, "port" | "cpuSeconds" | "connections">,
  bodies: string,
  load: { readonly connections: number; readonly seconds: number },
): Loaded {
  const generator = startGenerator(server.port, bodies);
  const [cpu, rates, least]: [number[], number[], number[]] = [[], [], []];
  const run = async () => {
    const signing = generator.run(load);
    await Bun.sleep(load.seconds * 500);
    const connections = server.connections();
    const { count, errors, seconds } = await signing;
    if (errors > 0) throw new TypeError(`${errors} requests failed`);
    return { count, seconds, connections };
  };
  return {
    cpu,
    rates,
    least,
    async warmUp() {
      for (let [round, left] = [0, WARM_UP]; round < WARM_UP_ROUNDS && left > 0; round++) {
        const { count, connections } = await run();
        left -= count / connections.length;
      }
    },
    async sign() {
      const before = server.cpuSeconds();
      const { count, seconds, connections } = await run();
      cpu.push((1000 * (server.cpuSeconds() - before)) / count);
      rates.push(count / seconds);
      least.push(Math.min(...connections) / connections.reduce((sum, next) => sum + next, 0));
      return count;
    },
    close: generator.close,
  };
}
