/**
 * Peers on `node:https` with the files of a folder: a mutual TLS handshake every 100 ms. Run on Node:
 *   node node-peer.ts serve CHAIN KEY ROOTS PID_FILE    a HUP has it read the files again
 *   node node-peer.ts dial COMBINED ROOTS NAME HOST:PORT
 *
 * The client reads the files for each handshake and checks the server by its DNS name. Both print
 * JSON lines, and end with a summary when their standard input does.
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:https";
import type { AddressInfo, LookupFunction } from "node:net";
import { createSecureContext, TLSSocket } from "node:tls";
import { issuerOf } from "./peer.ts";

const EVERY_MS = 100;
/** Of a whole exchange. Far above what one takes, since the machine may be busy. */
const PATIENCE_MS = 20_000;

const counts = { handshakes: 0, failures: 0, peers: {}, own: {} };
const seen = new Set<string>();
const print = (line: object) => console.log(JSON.stringify(line));

function succeeded(socket: unknown): void {
  const leaf = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  if (leaf === undefined) throw new Error("The peer has no leaf");
  counts.handshakes++;
  if (counts.handshakes % 10 === 0) print({ event: "count", handshakes: counts.handshakes });
  const issuer = issuerOf(leaf.toString());
  if (seen.has(issuer)) return;
  seen.add(issuer);
  print({ event: "issuer", side: "peer", issuer });
}

function failed(error: unknown): void {
  counts.failures++;
  print({ event: "failure", error: String(error), at: new Date().toISOString() });
}

function serve(chain: string, key: string, roots: string, pidFile: string): void {
  const read = () => ({
    cert: readFileSync(chain),
    key: readFileSync(key),
    ca: readFileSync(roots),
  });
  const server = createServer(
    { ...read(), requestCert: true, rejectUnauthorized: true },
    (incoming, response) => {
      succeeded(incoming.socket);
      response.writeHead(200, { connection: "close" }).end("ok\n");
    },
  );
  server.on("tlsClientError", failed);
  process.on("SIGHUP", () => {
    // A context that cannot be made leaves the present one.
    createSecureContext(read());
    server.setSecureContext(read());
  });
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo;
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o644 });
    print({ event: "listening", address: `127.0.0.1:${port}` });
  });
}

function once(combined: string, roots: string, name: string, address: string): Promise<void> {
  const [host = "", port] = address.split(":");
  const lookup: LookupFunction = (_, options, callback) => {
    if (options.all) callback(null, [{ address: host, family: 4 }]);
    else callback(null, host, 4);
  };
  const own = readFileSync(combined);
  return new Promise((resolve, reject) => {
    const sent = request(
      `https://${name}:${port}/`,
      // Without an agent no session is resumed.
      { cert: own, key: own, ca: readFileSync(roots), lookup, agent: false, timeout: PATIENCE_MS },
      (response) => {
        if (response.statusCode !== 200) reject(new Error(`The status is ${response.statusCode}`));
        succeeded(response.socket);
        response.resume().once("end", resolve).once("error", reject);
      },
    );
    sent.once("error", reject);
    sent.once("timeout", () => sent.destroy(new Error("No answer in time")));
    sent.end();
  });
}

async function dial(combined: string, roots: string, name: string, address: string): Promise<void> {
  while (true) {
    const next = Date.now() + EVERY_MS;
    await once(combined, roots, name, address).catch(failed);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - Date.now())));
  }
}

process.stdin.resume().once("end", () => {
  print({ event: "summary", ...counts });
  process.exit(0);
});
const [, , command, first = "", second = "", third = "", fourth = ""] = process.argv;
if (command === "serve") serve(first, second, third, fourth);
else await dial(first, second, third, fourth);
