/**
 * Serves on Deno.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import { type Served, serveWith } from "./serve.ts";
import type { Listen } from "./tls.ts";

/** The part of Deno's server that is used. */
declare const Deno: {
  serve(
    options: { hostname: string; port: number; onListen: () => void },
    handler: (request: Request, info: { readonly remoteAddr: { readonly hostname: string } }) => Response | Promise<Response>,
  ): { readonly addr: { readonly port: number }; shutdown(): Promise<void> };
};

const listenPlain: Listen = async ({ listen }, fetch) => {
  const server = Deno.serve({ hostname: listen.host, port: listen.port, onListen: () => undefined }, (request, { remoteAddr }) =>
    fetch(request, { remoteAddress: remoteAddr.hostname }),
  );
  return {
    port: server.addr.port,
    async stop(now) {
      // There is no way to cut off what is still being answered: it ends with the process.
      const stopped = server.shutdown();
      if (!now) await stopped;
    },
  };
};

/** Starts serving. @throws {CaError} @throws {Error} when the address is taken */
export const serve = (settings: Settings): Promise<Served> => serveWith(listenPlain, settings);
