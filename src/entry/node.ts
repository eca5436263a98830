/**
 * Serves on Node.
 * @module
 */
import { createServer } from "node:http";
import type { Settings } from "../config/settings.ts";
import { HEAD_MS, NodeServing } from "../tls/node-server.ts";
import { type Served, serveWith } from "./serve.ts";
import { IDLE_MS, type Listen } from "./tls.ts";

/** How often it is looked at whether the head of a request is late, in milliseconds. */
const CHECK_MS = 1000;

const listenPlain: Listen = async ({ listen, worker, limits }, fetch) => {
  const idleMs = limits.idleMs ?? IDLE_MS;
  const serving = new NodeServing(
    { ...listen, shared: worker !== null, idleMs, fetch },
    () => undefined,
  );
  const times = {
    keepAliveTimeout: idleMs,
    headersTimeout: Math.min(idleMs, HEAD_MS),
    connectionsCheckingInterval: CHECK_MS,
  };
  // Which request needs a Host is looked at with the rest of the head.
  const server = createServer({ ...times, requireHostHeader: false }, serving.listener);
  server.on("clientError", serving.refuseConnection);
  server.on("connection", (socket) => serving.track(socket, () => socket.destroySoon()));
  return { port: await serving.listen(server), stop: (now) => serving.close(server, now) };
};

/** Starts serving. @throws {CaError} @throws {Error} when the address is taken */
export const serve = (settings: Settings): Promise<Served> => serveWith(listenPlain, settings);
