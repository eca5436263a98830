/**
 * Watchers in a process of their own: each has a connection with a blocked query on the roots.
 * Prints `ready` when all wait, then, when all are answered, when each answer's last byte came in:
 * one JSON array of milliseconds since 1970 for each of the ports, which the watchers are spread
 * over.
 * @module
 */
import type { Socket } from "bun";

const [list = "", count = "0", index = "0"] = process.argv.slice(2);
const request = Buffer.from(
  `GET /v1/connect/ca/roots?index=${index}&wait=600s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`,
);
const ports = list.split(",");
const answeredAt: number[][] = ports.map(() => []);
const left = new Map<Socket<unknown>, number>();
const total = Number(count);
let errors = 0;
let answered = 0;

const data = (place: number) => (socket: Socket<unknown>, chunk: Buffer) => {
  let remaining = left.get(socket);
  if (remaining === undefined) {
    if (chunk[9] !== 0x32) errors++;
    const length = Number.parseInt(
      chunk.toString("latin1", chunk.indexOf("Content-Length: ") + 16),
      10,
    );
    remaining = chunk.indexOf("\r\n\r\n") + 4 + length;
  }
  remaining -= chunk.length;
  left.set(socket, remaining);
  if (remaining > 0) return;
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
      socket.write(request);
    }),
  );
console.log("ready");
