/**
 * Serves over TLS, in the same way on every server runtime.
 * @module
 */
import type { Meshca, Platform } from "../compose.ts";
import type { Settings } from "../config/settings.ts";
import type { TlsSettings } from "../config/tls.ts";
import { listenTls } from "../tls/server.ts";
import { openTls } from "../tls/tls.ts";

/** How long a connection may be silent, blocked queries aside, in milliseconds. */
export const IDLE_MS = 30_000;

export interface Listening {
  readonly port: number;
  /** Called once the CA is there. */
  start?(manager: Meshca["manager"]): Promise<void>;
  /** Stops accepting. @param now ends what is being answered too, also where it was called without before. */
  stop(now: boolean): Promise<void>;
}

/** Listens where the settings say. Rejects when the address is taken. */
export type Listen = (settings: Settings, fetch: Meshca["fetch"]) => Promise<Listening>;

export function listenWithTls(tls: TlsSettings, { clock, log, readFile }: Platform): Listen {
  return async ({ listen, worker, datacenter, limits }, fetch) => {
    const certificates = openTls({ settings: tls, datacenter, readFile, clock, log });
    const { clientCa, clientCertificate, minVersion } = tls;
    const client = { clientCa, clientCertificate };
    const server = await listenTls({
      ...listen,
      shared: worker !== null,
      client,
      minVersion,
      idleMs: limits.idle_time ?? IDLE_MS,
      fetch,
    });
    const stopping = new AbortController();
    let loop: Promise<void> | null = null;
    return {
      port: server.port,
      async start(manager) {
        await certificates.start(manager, server);
        loop = certificates.run(stopping.signal);
      },
      async stop(now) {
        stopping.abort();
        await server.close(now);
        await loop;
      },
    };
  };
}
