/**
 * Listening servers: what each has in common, and the one over TLS of every runtime.
 * @module
 */
import type { Platform } from "../compose/platform.ts";
import type { Meshca } from "../compose/process.ts";
import type { Settings } from "../config/settings.ts";
import type { TlsSettings } from "../config/tls.ts";
import { TlsCertificates } from "../tls/certificates.ts";
import { fingerprintFileOf } from "../tls/fingerprint-file.ts";
import { listenTls } from "../tls/server.ts";
import { readRegularFile } from "./regular-file.ts";

/** How long a connection without a blocked query may be silent, in milliseconds. */
export const IDLE_MS = 30_000;
/** How long requests in progress may take when the server stops, in milliseconds. */
const CLOSE_MS = 5000;

export interface Listening {
  readonly port: number;
  /** Undefined without TLS. */
  readonly certificates?: TlsCertificates;
  /**
   * Stops accepting, and resolves when all requests are answered.
   * @param now ends them instead, also after a call that waits for them.
   */
  stop(now: boolean): Promise<void>;
}

/** Listens on the address of the settings. @throws {Error} if it is in use */
export type Listen = (settings: Settings, fetch: Meshca["fetch"]) => Promise<Listening>;

export function listenWithTls(tls: TlsSettings, platform: Platform): Listen {
  return async ({ listen, worker, datacenter, limits }, fetch) => {
    const certificates = new TlsCertificates(tls, datacenter, readRegularFile, platform, {
      file: fingerprintFileOf(platform),
      hasWorkers: worker !== null,
    });
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

/** Stops accepting, and ends requests that are not answered in time. */
export async function stopInTime(server: Listening): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(() => resolve(server.stop(true)), CLOSE_MS);
  });
  await Promise.race([server.stop(false), late]);
  clearTimeout(timer);
}
