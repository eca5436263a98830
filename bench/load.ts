/**
 * A load generator in a process of its own: keep-alive connections, one request in flight on each,
 * as little work per request as can be, since it shares the cores with what it measures.
 *
 * It reads one JSON line per run on standard input and prints one JSON line per run:
 * `{connections, seconds, rate}` in, `{count, errors, seconds, p50, p99}` out (milliseconds). With
 * `rate`, requests are due at even times and each one's latency counts from when it was due;
 * without, every connection sends as soon as it has its answer.
 * @module
 */
import type { Socket } from "bun";

interface Run {
  readonly connections: number;
  readonly seconds: number;
  readonly rate?: number;
}

interface Connection {
  readonly socket: Socket<unknown>;
  startedAt: number;
  busy: boolean;
  /** What is left of the answer that is coming in. */
  left: number;
}

const [port = "", path = ""] = process.argv.slice(2);
const bodies = JSON.parse(await Bun.file(process.argv[4] ?? "").text()) as (
  | string
  | { pem: string; token: string }
)[];
const requests = bodies.map((sent) => {
  const { pem, head } =
    typeof sent === "string"
      ? { pem: sent, head: "" }
      : { pem: sent.pem, head: `X-Consul-Token: ${sent.token}\r\n` };
  return Buffer.from(
    `PUT ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${head}Content-Length: ${pem.length}\r\n\r\n${pem}`,
  );
});
const LENGTH = Buffer.from("Content-Length: ");
/** As Node writes it, and Deno. */
const LOWER_LENGTH = Buffer.from("content-length: ");
const HEAD_END = Buffer.from("\r\n\r\n");

async function run({ connections, seconds, rate }: Run): Promise<object> {
  const latencies: number[] = [];
  let errors = 0;
  let next = 0;
  let stopped = false;
  // Taken from the front by an index: to shift one of thousands moves all others.
  const due: number[] = [];
  let taken = 0;
  const idle: Connection[] = [];
  const open = new Map<Socket<unknown>, Connection>();

  const send = (connection: Connection, startedAt: number) => {
    connection.busy = true;
    connection.startedAt = startedAt;
    connection.socket.write(requests[next++ % requests.length] as Buffer);
  };
  const answered = (connection: Connection) => {
    latencies.push(performance.now() - connection.startedAt);
    connection.busy = false;
    if (stopped) return;
    if (rate === undefined) send(connection, performance.now());
    else {
      const waiting = due[taken];
      if (waiting === undefined) idle.push(connection);
      else {
        taken++;
        send(connection, waiting);
      }
    }
  };
  const data = (socket: Socket<unknown>, chunk: Buffer) => {
    const connection = open.get(socket) as Connection;
    if (connection.left === 0) {
      if (chunk[9] !== 0x32) errors++;
      const found = chunk.indexOf(LENGTH);
      const at = (found < 0 ? chunk.indexOf(LOWER_LENGTH) : found) + LENGTH.length;
      connection.left =
        chunk.indexOf(HEAD_END) + 4 + Number.parseInt(chunk.toString("latin1", at, at + 8), 10);
    }
    connection.left -= chunk.length;
    if (connection.left <= 0) {
      connection.left = 0;
      answered(connection);
    }
  };
  for (let i = 0; i < connections; i++) {
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: Number(port),
      socket: { data },
    });
    open.set(socket, { socket, startedAt: 0, busy: false, left: 0 });
  }
  const started = performance.now();
  if (rate === undefined) for (const connection of open.values()) send(connection, started);
  else {
    idle.push(...open.values());
    let released = 0;
    while (performance.now() - started < seconds * 1000) {
      const upTo = ((performance.now() - started) / 1000) * rate;
      for (; released < upTo; released++) {
        const at = started + (released / rate) * 1000;
        const connection = idle.pop();
        if (connection === undefined) due.push(at);
        else send(connection, at);
      }
      await Bun.sleep(1);
    }
  }
  if (rate === undefined) await Bun.sleep(seconds * 1000);
  const elapsed = (performance.now() - started) / 1000;
  const count = latencies.length;
  stopped = true;
  await Bun.sleep(50);
  for (const socket of open.keys()) socket.end();
  const sorted = latencies.slice(0, count).toSorted((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { count, errors, seconds: elapsed, p50: at(0.5), p99: at(0.99) };
}

for await (const line of console)
  if (line !== "") console.log(JSON.stringify(await run(JSON.parse(line) as Run)));
