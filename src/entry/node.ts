/**
 * Serves on Node, and on Deno by its `node:http`: Deno.serve bounds neither how long a connection may
 * be silent nor how long the head of a request may take.
 * @module
 */
import { createServer } from "node:http";
import type { Settings } from "../config/settings.ts";
import { HEAD_MS, NodeServing } from "../tls/node-server.ts";
import { IDLE_MS, type Listen } from "./listen.ts";
import { type Served, serveWith } from "./serve.ts";

/** How often Node checks for late heads of requests, in milliseconds. */
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
  // NodeServing checks the Host header.
  const server = createServer({ ...times, requireHostHeader: false }, serving.listener);
  server.on("clientError", serving.refuseConnection);
  server.on("connection", (socket) => serving.track(socket, () => socket.destroySoon()));
  return { port: await serving.listen(server), stop: (now) => serving.close(server, now) };
};

/** Starts serving. @throws {CaError} @throws {Error} if the address is in use */
export const serve = (settings: Settings): Promise<Served> => serveWith(listenPlain, settings);
