/**
 * A service of compose.yaml. `api` serves mutual TLS and answers the service web only; `web` calls
 * it for each request. Both use the credential folder that the agent keeps fresh, and compare the
 * SPIFFE ID of the other side, which is what a certificate of the mesh identifies a service by.
 * @module
 */
import { readFileSync, realpathSync, watch } from "node:fs";
import { createServer as createHttp } from "node:http";
import { connect, createServer, type TLSSocket } from "node:tls";

const [name = "", peer = ""] = process.argv.slice(2);
const folder = `/run/meshca/${name}`;

/** One generation of the files: a name may show the next one between two reads. */
function credentials(): { cert: string; key: string; ca: string } {
  const generation = realpathSync(`${folder}/..data`);
  const read = (file: string) => readFileSync(`${generation}/${file}`, "utf8");
  return { cert: read("tls.crt"), key: read("tls.key"), ca: read("ca.crt") };
}

interface Peer {
  /** Its SPIFFE ID. */
  readonly id: string;
  /** The fingerprint of its certificate. */
  readonly certificate: string;
}

/** The other side, whose certificate was verified with the roots of the mesh. */
function peerOf(socket: TLSSocket): Peer {
  const { subjectaltname = "", fingerprint256 } = socket.getPeerCertificate();
  const id = /(?:^|, )URI:(spiffe:\/\/[^,]+)/.exec(subjectaltname)?.[1] ?? "unknown";
  return { id, certificate: fingerprint256 };
}

const isService = (id: string, service: string) =>
  /^spiffe:\/\/[^/]+\/ns\/default\/dc\/dc1\/svc\/([^/]+)$/.exec(id)?.[1] === service;

/** Serves mutual TLS to the service `peer`: one line of JSON for each connection. */
function serveApi(): void {
  const mutual = { requestCert: true, rejectUnauthorized: true };
  const server = createServer({ ...credentials(), ...mutual }, (socket) => {
    const caller = peerOf(socket);
    const allowed = isService(caller.id, peer);
    socket.on("error", () => socket.destroy());
    socket.end(`${JSON.stringify({ service: name, caller, allowed })}\n`);
  });
  server.on("tlsClientError", ({ message }) =>
    process.stderr.write(`Refused a connection: ${message}\n`),
  );
  watch(folder, () => server.setSecureContext({ ...credentials(), ...mutual }));
  server.listen(8443, "0.0.0.0");
}

/** Calls the service `peer` over mutual TLS. @returns the service and its answer */
function callPeer(): Promise<Awaited<ReturnType<typeof readAnswer>>> {
  return new Promise((resolve, reject) => {
    // A service of the mesh is identified by its SPIFFE ID, which is compared below.
    const identified = { checkServerIdentity: () => undefined };
    const socket = connect({ ...credentials(), host: peer, port: 8443, ...identified }, () => {
      const called = peerOf(socket);
      if (isService(called.id, peer)) return void readAnswer(socket, called).then(resolve, reject);
      reject(new Error(`${called.id} is not the service ${peer}`));
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

async function readAnswer(socket: TLSSocket, called: Peer) {
  let text = "";
  for await (const chunk of socket) text += chunk;
  return { called, answer: JSON.parse(text) as unknown };
}

/** Serves plain HTTP, which compose.yaml publishes on loopback, and calls the other service. */
function serveWeb(): void {
  const server = createHttp(async (_incoming, response) => {
    try {
      const text = JSON.stringify(await callPeer());
      response.writeHead(200, { "Content-Type": "application/json" }).end(`${text}\n`);
    } catch (error) {
      response.writeHead(502).end(`${error instanceof Error ? error.message : error}\n`);
    }
  });
  server.listen(8080, "0.0.0.0");
}

if (name === "api") serveApi();
else serveWeb();
process.on("SIGTERM", () => process.exit(0));
