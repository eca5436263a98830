/**
 * Serves on Node, and on Deno by its `node:http`: Deno.serve bounds neither how long a connection may
 * be silent nor how long the head of a request may take.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import { listenPlain } from "../tls/plain-server.ts";
import { IDLE_MS, type Listen } from "./listen.ts";
import { type Served, serveWith } from "./serve.ts";

const listen: Listen = ({ listen: address, worker, limits }, fetch) =>
  listenPlain({
    ...address,
    shared: worker !== null,
    idleMs: limits.idleMs ?? IDLE_MS,
    fetch,
  });

/** Starts serving. @throws {CaError} @throws {Error} if the address is in use */
export const serve = (settings: Settings): Promise<Served> => serveWith(listen, settings);
