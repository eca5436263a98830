/**
 * Serves on Bun.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import { environmentOf } from "./environment.ts";
import { type Served, serveWith } from "./serve.ts";
import { IDLE_MS, type Listen } from "./tls.ts";

/** As large as any body that a route reads; larger ones are cut off by the runtime. */
const MAX_BODY = 128 * 1024;

const listenPlain: Listen = async ({ listen, worker, limits }, fetch) => {
  const server = Bun.serve({
    hostname: listen.host,
    port: listen.port,
    reusePort: worker !== null,
    idleTimeout: Math.ceil((limits.idleMs ?? IDLE_MS) / 1000),
    maxRequestBodySize: Math.max(
      MAX_BODY,
      limits.maxBodyConfiguration ?? 0,
      limits.maxBodyBackup ?? 0,
    ),
    fetch: (request, runtime) => fetch(request, environmentOf(request, runtime)),
  });
  return { port: server.port ?? listen.port, stop: (now) => server.stop(now) };
};

/** Starts serving. @throws {CaError} @throws {Error} when the address is taken */
export const serve = (settings: Settings): Promise<Served> => serveWith(listenPlain, settings);
