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
    options: { hostname: string; port: number; onListen: () => void; signal: AbortSignal },
    handler: (request: Request, info: { readonly remoteAddr: { readonly hostname: string } }) => Response | Promise<Response>,
  ): { readonly addr: { readonly port: number }; readonly finished: Promise<void>; shutdown(): Promise<void> };
};

/** Milliseconds for what is being answered when the server ends. */
const CLOSE_MS = 5000;

const listenPlain: Listen = async ({ listen }, fetch) => {
  const ending = new AbortController();
  const server = Deno.serve(
    { hostname: listen.host, port: listen.port, onListen: () => undefined, signal: ending.signal },
    (request, { remoteAddr }) => fetch(request, { remoteAddress: remoteAddr.hostname }),
  );
  return {
    port: server.addr.port,
    async stop(now) {
      const late = setTimeout(() => ending.abort(), now ? 0 : CLOSE_MS);
      await server.shutdown();
      clearTimeout(late);
    },
  };
};

/** Starts serving. @throws {CaError} @throws {Error} when the address is taken */
export const serve = (settings: Settings): Promise<Served> => serveWith(listenPlain, settings);
