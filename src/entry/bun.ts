/**
 * Serves on Bun.
 * @module
 */
import type { RequestEnvironment } from "../compose/platform.ts";
import type { Settings } from "../config/settings.ts";
import { IDLE_MS, type Listen } from "./listen.ts";
import { type Served, serveWith } from "./serve.ts";

/** The largest body that a route reads by default, in octets. Bun refuses larger ones. */
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

/** Starts serving. @throws {CaError} @throws {Error} if the address is in use */
export const serve = (settings: Settings): Promise<Served> => serveWith(listenPlain, settings);

/** The part of Bun.serve's server that is used. */
interface Runtime {
  timeout(request: Request, seconds: number): void;
  requestIP(request: Request): { readonly address: string } | null;
}

/** The address is read only on demand: it costs a hundredth of a leaf. */
function environmentOf(request: Request, runtime: Runtime): RequestEnvironment {
  return {
    holdOpen: () => runtime.timeout(request, 0),
    get remoteAddress() {
      return runtime.requestIP(request)?.address;
    },
  };
}
