/**
 * Serves over TLS, in the same way on every server runtime.
 * @module
 */
import type { Platform } from "../compose/platform.ts";
import type { Meshca } from "../compose/process.ts";
import type { Settings } from "../config/settings.ts";
import type { TlsSettings } from "../config/tls.ts";
import { TlsCertificates } from "../tls/certificates.ts";
import { listenTls } from "../tls/server.ts";
import { readRegularFile } from "./regular-file.ts";

/** How long a connection may be silent, blocked queries aside, in milliseconds. */
export const IDLE_MS = 30_000;

export interface Listening {
  readonly port: number;
  /** The certificate that is shown; undefined without TLS. */
  readonly certificates?: TlsCertificates;
  /**
   * Stops accepting.
   * @param now ends what is being answered too, also where it was called without before.
   */
  stop(now: boolean): Promise<void>;
}

/** Listens where the settings say. Rejects when the address is taken. */
export type Listen = (settings: Settings, fetch: Meshca["fetch"]) => Promise<Listening>;

export function listenWithTls(tls: TlsSettings, platform: Platform): Listen {
  return async ({ listen, worker, datacenter, limits }, fetch) => {
    const certificates = new TlsCertificates(tls, datacenter, readRegularFile, platform);
    const { clientCa, clientCertificate, minVersion } = tls;
    const client = { clientCa, clientCertificate };
    const server = await listenTls({
      ...listen,
      shared: worker !== null,
      client,
      minVersion,
      idleMs: limits.idleMs ?? IDLE_MS,
      fetch,
    });
    const stopping = new AbortController();
    try {
      await certificates.open(server);
    } catch (error) {
      await server.close(true);
      throw error;
    }
    const loop = certificates.run(stopping.signal);
    return {
      port: server.port,
      certificates,
      async stop(now) {
        stopping.abort();
        await server.close(now);
        await loop;
      },
    };
  };
}
