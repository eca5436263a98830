/**
 * From a rotation in the primary datacenter to the watchers of two secondary ones.
 * @module
 */
import { type Deployment, startPrimary, startSecondary, TOKEN } from "./datacenter-servers.ts";
import { quantile } from "./figures.ts";
import type { BenchServer } from "./server.ts";
import { printFigures } from "./verdict.ts";
import { now, rotate, startWatchers } from "./watching.ts";

/** As many as a primary's chains leave room for, with their roots still published. */
const ROTATIONS = 5;
/** Until what a rotation causes besides the answers is over, in milliseconds. */
const SETTLE_MS = 3000;
/** Watchers that a rotation does not reach fail the measurement, in milliseconds. */
const ANSWER_MS = 60_000;

/** Of the watchers of a secondary. */
const SHARES = [0, 0.5, 0.99, 1] as const;

/** Milliseconds after the primary answered the request for the rotation. */
interface Rotation {
  /** When the request was sent: negative. */
  readonly sent: number;
  /** When the primary recorded the first and the last intermediate. */
  readonly signed: readonly number[];
  /** By secondary. */
  readonly followed: readonly number[];
  readonly answered: readonly (readonly number[])[];
  /** Seconds that each secondary took from the request for the rotation to the last answer. */
  readonly cpu: readonly number[];
  /** Octets of an answer. */
  readonly octets: number;
}

/** @param runtime its name. @param each watchers of each secondary. */
export async function measureWatchers(
  runtime: string,
  deployment: Deployment,
  each: number,
): Promise<void> {
  const servers: BenchServer[] = [];
  try {
    const primary = await startPrimary(deployment, true);
    servers.push(primary);
    for (const name of ["dc2", "dc3"])
      servers.push(await startSecondary(deployment, name, primary));
    const secondaries = servers.slice(1);
    const before = secondaries.map((server) => server.memory().now);
    const rotations: Rotation[] = [];
    let waiting: number[] = [];
    for (let i = 0; i < ROTATIONS; i++) {
      await Bun.sleep(SETTLE_MS);
      const watching = await startWatchers(
        secondaries.map(({ port }) => port),
        each * secondaries.length,
        { token: TOKEN },
      );
      if (i === 0) waiting = secondaries.map((server) => server.memory().now);
      const cpu = secondaries.map((server) => server.cpuSeconds());
      const { sentAt, changedAt } = await rotate(primary.port, { token: TOKEN, tls: true });
      const { errors, answeredAt } = await withDeadline(watching.answered());
      const spent = secondaries.map((server, at) => server.cpuSeconds() - (cpu[at] ?? Number.NaN));
      if (errors > 0) throw new TypeError(`${errors} watchers were refused`);
      await watching.stop();
      const since = (at: number) => at - changedAt;
      rotations.push({
        sent: since(sentAt),
        signed: [
          since(await timeOf(primary, "intermediate", sentAt)),
          since(await timeOf(primary, "intermediate", sentAt)),
        ],
        followed: await Promise.all(
          secondaries.map(async (server) => since(await timeOf(server, "follow", sentAt))),
        ),
        answered: answeredAt.map((times) => times.map(since)),
        cpu: spent,
        octets: await octetsOf(secondaries[0]?.port ?? ""),
      });
    }
    print(`${runtime}: 2 secondaries with ${each} watchers each`, rotations, {
      "memory of a secondary without watchers": Math.max(...before),
      "memory with all waiting": Math.max(...waiting),
      "memory, peak": Math.max(...secondaries.map((server) => server.memory().peak)),
    });
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}

async function octetsOf(port: string): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/v1/connect/ca/roots`);
  return (await answer.arrayBuffer()).byteLength;
}

/** When a change of a kind was logged, in milliseconds since 1970; not one of before. */
async function timeOf(server: BenchServer, kind: string, notBefore: number): Promise<number> {
  for (;;) {
    const [line] = await withDeadline(server.log(new RegExp(`.*"change":"${kind}".*\n`)));
    const at = Date.parse(JSON.parse(line)["@timestamp"]);
    if (at >= Math.floor(notBefore)) return at;
  }
}

async function withDeadline<T>(work: Promise<T>): Promise<T> {
  const over = new AbortController();
  const late = async () => {
    const end = now() + ANSWER_MS;
    while (now() < end && !over.signal.aborted) await Bun.sleep(100);
    throw new TypeError(`No answer within ${ANSWER_MS / 1000} s`);
  };
  try {
    return await Promise.race([work, late()]);
  } finally {
    over.abort();
  }
}

function print(
  title: string,
  rotations: readonly Rotation[],
  memory: Readonly<Record<string, number>>,
): void {
  const rows = rotations.map(({ sent, signed, followed, answered, cpu, octets }, i) => {
    const of = (place: number, share: number) => Math.round(quantile(answered[place] ?? [], share));
    return [
      `rotation ${i + 1}`,
      {
        "PUT sent": Math.round(sent),
        "intermediates signed": signed.map(Math.round).join(" "),
        "dc2, dc3 followed": followed.map(Math.round).join(" "),
        "dc2 first, p50, p99, max": SHARES.map((share) => of(0, share)).join(" "),
        "dc3 first, p50, p99, max": SHARES.map((share) => of(1, share)).join(" "),
        "CPU s": cpu.map((value) => value.toFixed(2)).join(" "),
        octets,
      },
    ] as const;
  });
  console.log(`\n${title}, ${rotations.length} rotations; ms from the answer to PUT rotate`);
  console.table(Object.fromEntries(rows));
  const all = rotations.flatMap(({ answered }) => answered.flat());
  const fromPut = rotations.flatMap(({ sent, answered }) => answered.flat().map((at) => at - sent));
  const ms = (value: number, most: number | null = null) => ({ value, most, unit: "ms" });
  printFigures(`${title}, all rotations`, {
    "answered, p50 from the commit": ms(quantile(all, 0.5)),
    "answered, p99 from the commit": ms(quantile(all, 0.99), 2000),
    "answered, max from the commit": ms(quantile(all, 1)),
    "answered, p99 from PUT": ms(quantile(fromPut, 0.99)),
    ...Object.fromEntries(
      Object.entries(memory).map(([name, value]) => [name, { value, most: null, unit: "MB" }]),
    ),
  });
}
