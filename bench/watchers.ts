/**
 * Watchers in a process of their own: each has a connection with a blocked query on the roots.
 * Prints `ready` when all wait, then, when all are answered, when each answer's last byte came in:
 * one JSON array of milliseconds since 1970 for each of the ports, which the watchers are spread
 * over. The third argument has the index of the roots on each port.
 * @module
 */
import type { Socket } from "bun";

const [list = "", count = "0", indexes = ""] = process.argv.slice(2);
const ports = list.split(",");
const requests = indexes
  .split(",")
  .map((index) =>
    Buffer.from(
      `GET /v1/connect/ca/roots?index=${index}&wait=600s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`,
    ),
  );
const answeredAt: number[][] = ports.map(() => []);
const left = new Map<Socket<unknown>, number>();
const total = Number(count);
let errors = 0;
let answered = 0;

/** The beginning of an answer whose head is not whole yet. */
const heads = new Map<Socket<unknown>, Buffer>();
/** The end of an answer in chunks. */
const LAST_CHUNK = Buffer.from("0\r\n\r\n");

const data = (place: number) => (socket: Socket<unknown>, received: Buffer) => {
  let [chunk, remaining] = [received, left.get(socket)];
  if (remaining === undefined) {
    chunk = Buffer.concat([heads.get(socket) ?? Buffer.of(), chunk]);
    heads.set(socket, chunk);
    const end = chunk.indexOf("\r\n\r\n") + 4;
    if (end < 4) return;
    if (chunk[9] !== 0x32) errors++;
    // Runtimes write it in different case.
    const length = /content-length: (\d+)/i.exec(chunk.toString("latin1", 0, end))?.[1];
    remaining = length === undefined ? Number.POSITIVE_INFINITY : end + Number(length);
  }
  remaining -= chunk.length;
  left.set(socket, remaining);
  const isChunked = remaining === Number.POSITIVE_INFINITY;
  if (isChunked ? !chunk.subarray(-LAST_CHUNK.length).equals(LAST_CHUNK) : remaining > 0) return;
  answeredAt[place]?.push(performance.timeOrigin + performance.now());
  // Keeps the connections, as clients do, until the process is stopped.
  if (++answered === total) console.log(JSON.stringify({ errors, answeredAt }));
};

for (let opened = 0; opened < total; opened += 100)
  await Promise.all(
    Array.from({ length: Math.min(100, total - opened) }, async (_, i) => {
      const place = (opened + i) % ports.length;
      const socket = await Bun.connect({
        hostname: "127.0.0.1",
        port: Number(ports[place]),
        socket: { data: data(place) },
      });
      socket.write(requests[place] as Buffer);
    }),
  );
console.log("ready");
