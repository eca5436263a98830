/**
 * HTTP/1.1 without TLS over `node:http`, with the bounds of `NodeServing`: on loopback or behind a
 * proxy, and on a Unix socket.
 * @module
 */
import { createServer } from "node:http";
import { HEAD_MS, type NodeServerOptions, NodeServing } from "./node-server.ts";

/** How often Node checks for late heads of requests, in milliseconds. */
const CHECK_MS = 1000;

export interface PlainServer {
  /** That of the options for a Unix socket. */
  readonly port: number;
  /** As `NodeServing.close`. */
  stop(now: boolean): Promise<void>;
}

/** Starts to listen. @throws {Error} if the address is in use */
export async function listenPlain(options: NodeServerOptions): Promise<PlainServer> {
  const { idleMs } = options;
  const serving = new NodeServing(options, () => undefined);
  const times = {
    keepAliveTimeout: idleMs,
    headersTimeout: Math.min(idleMs, HEAD_MS),
    connectionsCheckingInterval: CHECK_MS,
  };
  // NodeServing checks the Host header.
  const server = createServer({ ...times, requireHostHeader: false }, serving.listener);
  server.on("clientError", serving.refuseConnection);
  server.on("connection", (socket) => serving.track(socket, () => socket.destroySoon()));
  return { port: await serving.listen(server), stop: (now) => serving.close(server, now) };
}
