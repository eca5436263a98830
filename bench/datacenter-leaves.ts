/**
 * Leaves a second in a secondary datacenter, compared with a primary one. A secondary sends a
 * certificate more with each leaf; what that costs by itself is seen in a primary that was rotated
 * once, which sends one more, too. What two processes of the same server differ by is seen in a
 * second primary.
 * @module
 */
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { type Deployment, startPrimary, startSecondary, TOKEN } from "./datacenter-servers.ts";
import { median } from "./figures.ts";
import { loaded } from "./loaded.ts";
import { CLUSTER, makeRequests, writeBodies } from "./requests.ts";
import type { BenchServer } from "./server.ts";
import { printFigures } from "./verdict.ts";
import { rotate } from "./watching.ts";

/** Of each server: one process differs from the next by more than what is measured. */
const STARTS = 5;
const ROUNDS = 2;
const SECONDS = 2;
const CONNECTIONS = 64;

const NAMES = {
  primary: "primary",
  again: "primary, another process",
  rotated: "primary, rotated once",
  secondary: "secondary",
} as const;
type Kind = keyof typeof NAMES;
const KINDS = Object.keys(NAMES) as readonly Kind[];

/** Medians of the rounds of one start. */
interface Start {
  readonly leavesPerSecond: number;
  /** Seconds for 1,000 leaves. */
  readonly cpu: number;
  /** Of the response with a leaf. */
  readonly octets: number;
}

/** @param runtime its name. */
export async function measureLeaves(runtime: string, deployment: Deployment): Promise<void> {
  const { folder } = deployment;
  const bodiesOf = async (datacenter: string) =>
    writeBodies(
      mkdtempSync(join(folder, "bodies-")),
      await makeRequests(`${CLUSTER}.consul`, datacenter),
      TOKEN,
    );
  const [one, two] = [await bodiesOf("dc1"), await bodiesOf("dc2")];
  const starts: Readonly<Record<Kind, Start>>[] = [];
  for (let start = 0; start < STARTS; start++) {
    const running: BenchServer[] = [];
    const started = <S extends BenchServer>(server: S): S => {
      running.push(server);
      return server;
    };
    try {
      const primary = started(await startPrimary(deployment, false));
      const again = started(await startPrimary(deployment, false));
      const rotated = started(await startPrimary(deployment, false));
      await rotate(rotated.port, { token: TOKEN });
      const secondary = started(await startSecondary(deployment, "dc2", primary));
      starts.push(await signInTurn({ primary, again, rotated, secondary }, { one, two }, start));
    } finally {
      await Promise.all(running.map((server) => server.stop()));
    }
  }
  print(runtime, starts);
}

/** In another order from round to round and start to start, so that none is always the first. */
async function signInTurn(
  servers: Readonly<Record<Kind, BenchServer>>,
  { one, two }: { readonly one: string; readonly two: string },
  start: number,
): Promise<Record<Kind, Start>> {
  const bodiesOf = (kind: Kind) => (kind === "secondary" ? two : one);
  const load = { connections: CONNECTIONS, seconds: SECONDS };
  const loads = mapKinds((kind) => loaded(servers[kind], bodiesOf(kind), load));
  for (const kind of KINDS) await loads[kind].warmUp();
  // The first round does not count: the server that was warmed up first has been idle since.
  for (let round = 0; round <= ROUNDS; round++)
    for (const i of KINDS.keys())
      await loads[KINDS[(start + round + i) % KINDS.length] as Kind].sign();
  for (const kind of KINDS) loads[kind].close();
  const octets = await Promise.all(KINDS.map((kind) => octetsOf(servers[kind], bodiesOf(kind))));
  return mapKinds((kind, i) => ({
    leavesPerSecond: median(loads[kind].rates.slice(1)),
    cpu: median(loads[kind].cpu.slice(1)),
    octets: octets[i] ?? Number.NaN,
  }));
}

const mapKinds = <T>(of: (kind: Kind, i: number) => T): Record<Kind, T> =>
  Object.fromEntries(KINDS.map((kind, i) => [kind, of(kind, i)])) as Record<Kind, T>;

/** Octets of the response with a leaf. */
async function octetsOf({ port }: BenchServer, bodies: string): Promise<number> {
  const [{ pem }] = (await Bun.file(bodies).json()) as [{ pem: string }];
  const answer = await fetch(`http://127.0.0.1:${port}/v1/connect/ca/sign`, {
    method: "PUT",
    headers: { "X-Consul-Token": TOKEN },
    body: pem,
  });
  return (await answer.arrayBuffer()).byteLength;
}

function print(runtime: string, starts: readonly Readonly<Record<Kind, Start>>[]): void {
  const of = (kind: Kind, column: keyof Start) => starts.map((start) => start[kind][column]);
  console.log(
    `\n${runtime}: leaves, EC P-256, access control on, ${CONNECTIONS} connections, ${ROUNDS} rounds of ${SECONDS} s on ${STARTS} starts of each server, medians`,
  );
  console.table(
    Object.fromEntries(
      KINDS.map((kind) => [
        NAMES[kind],
        {
          "leaves/s": Math.round(median(of(kind, "leavesPerSecond"))),
          "CPU s per 1,000 leaves": median(of(kind, "cpu")).toFixed(4),
          "octets of a response": median(of(kind, "octets")),
        },
      ]),
    ),
  );
  /** By start: time or CPU for a leaf, relative to another server; null: to both primaries. */
  const times = (kind: Kind, than: Kind | null, column: "leavesPerSecond" | "cpu") =>
    starts.map((start) => {
      const both = Math.sqrt(start.primary[column] * start.again[column]);
      const other = than === null ? both : start[than][column];
      return column === "cpu" ? start[kind][column] / other : other / start[kind][column];
    });
  const figure = (kind: Kind, column: "leavesPerSecond" | "cpu", hasTarget = false) => ({
    value: median(times(kind, null, column)),
    most: hasTarget
      ? Math.max(...times("again", "primary", column).map((ratio) => Math.max(ratio, 1 / ratio)))
      : null,
    unit: "",
  });
  printFigures(
    `${runtime}: a leaf relative to both primaries, medians of the starts; the target is what two primaries differ by at most`,
    {
      "secondary, time": figure("secondary", "leavesPerSecond", true),
      "secondary, CPU": figure("secondary", "cpu", true),
      "the certificate by itself, time": figure("rotated", "leavesPerSecond"),
      "the certificate by itself, CPU": figure("rotated", "cpu"),
    },
  );
  for (const kind of ["secondary", "again"] as const)
    console.log(
      `${NAMES[kind]}, CPU by start: ${times(kind, kind === "again" ? "primary" : null, "cpu")
        .map((ratio) => ratio.toFixed(3))
        .join(" ")}`,
    );
}
