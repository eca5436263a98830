/**
 * Serves on Node.
 * @module
 */
import { createServer } from "node:http";
import type { Settings } from "../config/settings.ts";
import { createServing } from "../tls/node-server.ts";
import { type Served, serveWith } from "./serve.ts";
import { IDLE_MS, type Listen } from "./tls.ts";

/** How long the head of a request may take to come in, and how often that is looked at, in milliseconds. */
const HEAD_MS = 10_000;
const CHECK_MS = 2000;

const listenPlain: Listen = async ({ listen, worker, limits }, fetch) => {
  const idleMs = limits.idle_time ?? IDLE_MS;
  const serving = createServing({ ...listen, shared: worker !== null, idleMs, fetch }, () => undefined);
  const times = { keepAliveTimeout: idleMs, headersTimeout: Math.min(idleMs, HEAD_MS), connectionsCheckingInterval: CHECK_MS };
  const server = createServer(times, serving.listener);
  server.on("connection", (socket) => serving.track(socket, () => socket.destroySoon()));
  return { port: await serving.listen(server), stop: (now) => serving.close(server, now) };
};

/** Starts serving. @throws {CaError} @throws {Error} when the address is taken */
export const serve = (settings: Settings): Promise<Served> => serveWith(listenPlain, settings);
