/**
 * A service of the mesh as a process of its own: a server with mutual TLS that calls every service, one
 * after the other, for as long as it runs. It takes its certificate and its roots from the folder that
 * an agent writes, for each handshake:
 *   mesh-service.ts FOLDER SPIFFE_ID PEERS
 * PEERS is a JSON file with the services to call, read for each round. It prints JSON lines as
 * PeerProcess reads them. When its standard input ends, it ends the call that it is in, prints a summary
 * and ends.
 * @module
 */
import { readFileSync, realpathSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import {
  connect,
  createSecureContext,
  createServer,
  type SecureContext,
  type TLSSocket,
} from "node:tls";
import { colonHex } from "../../src/core/bytes.ts";
import { readCertificate } from "../../src/core/x509/certificate.ts";

/** A service to call. */
export interface Callee {
  readonly uri: string;
  /** `host:port` */
  readonly address: string;
}

/** Between two handshakes. */
const PAUSE_MS = 40;
/** Of one handshake: far above what it takes on a busy machine. */
const PATIENCE_MS = 30_000;

const [, , folder = "", uri = "", peersFile = ""] = process.argv;
const print = (line: object) => console.log(JSON.stringify(line));
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

let handshakes = 0;
const seen = new Set<string>();

function succeeded(side: "peer" | "own", issuer: string): void {
  const key = `${side} ${issuer}`;
  if (!seen.has(key)) print({ event: "issuer", side, issuer });
  seen.add(key);
}

function failed(reason: string): void {
  print({ event: "failure", error: reason, at: new Date().toISOString() });
}

let current: { readonly generation: string; readonly context: SecureContext } | null = null;

/** The present files, all of one generation. */
function contextNow(): SecureContext {
  const generation = realpathSync(join(folder, "..data"));
  if (current?.generation === generation) return current.context;
  const read = (name: string) => readFileSync(join(generation, name));
  const context = createSecureContext({
    cert: read("tls.crt"),
    key: read("tls.key"),
    ca: read("ca.crt"),
  });
  current = { generation, context };
  return context;
}

/** The SPIFFE ID of the other side, which the TLS library has verified. */
const peerOf = (socket: TLSSocket): string =>
  (socket.getPeerCertificate().subjectaltname ?? "").replace(/^URI:/, "");

const reasonOf = (error: Error): string =>
  "code" in error && typeof error.code === "string" ? error.code : error.message;

const server = createServer(
  {
    requestCert: true,
    rejectUnauthorized: true,
    SNICallback: (_, done) => {
      try {
        done(null, contextNow());
      } catch (error) {
        done(error instanceof Error ? error : new Error(String(error)));
      }
    },
  },
  (socket) => {
    socket.on("error", () => undefined);
    // What the caller waits for: with TLS 1.3 it does not know earlier that it was accepted.
    socket.end(socket.authorized ? peerOf(socket) : "unauthorized");
  },
);
// A refused client certificate is reported as a connection that was reset.
server.on("tlsClientError", (error, { authorizationError }) =>
  failed(`server ${uri}: ${authorizationError ?? reasonOf(error)}`),
);

/** One new connection with a full handshake. @returns why it failed, or null. */
function call(callee: Callee): Promise<string | null> {
  const [host = "", port = ""] = callee.address.split(":");
  return new Promise((resolve) => {
    let [answer, fault, issuer] = ["", "", ""];
    const socket = connect({
      ...{ host, port: Number(port), servername: "service.mesh" },
      secureContext: contextNow(),
      rejectUnauthorized: true,
      // A SPIFFE ID in place of a host name.
      checkServerIdentity: (_, { subjectaltname = "", raw }) => {
        const { authorityKeyId } = readCertificate(new Uint8Array(raw));
        issuer = authorityKeyId === null ? "" : colonHex(authorityKeyId);
        return subjectaltname === `URI:${callee.uri}`
          ? undefined
          : new Error(`The server is ${subjectaltname}`);
      },
    });
    socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error("timeout")));
    socket.setEncoding("utf8").on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", (error) => {
      fault = reasonOf(error);
    });
    socket.on("close", () => {
      if (fault === "" && answer !== uri) fault = `the server knows the caller as "${answer}"`;
      if (fault === "") succeeded("peer", issuer);
      resolve(fault === "" ? null : `client ${uri} calling ${callee.uri}: ${fault}`);
    });
  });
}

/** Whether no further call is to begin. */
let ending = false;
process.stdin.resume().once("end", () => {
  ending = true;
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
print({
  event: "listening",
  address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
});
while (!ending) {
  for (const callee of JSON.parse(readFileSync(peersFile, "utf8")) as Callee[]) {
    if (ending) break;
    const fault = await call(callee).catch((error: unknown) => String(error));
    if (fault !== null) failed(fault);
    else if (++handshakes % 10 === 0) print({ event: "count", handshakes });
    await pause(PAUSE_MS);
  }
  await pause(PAUSE_MS);
}
print({ event: "summary", handshakes });
process.exit(0);
