/**
 * What serving is on every server runtime: composes the CA, listens with TLS or without, and ends in order.
 * @module
 */
import { compose, type Meshca } from "../compose.ts";
import type { Settings } from "../config/settings.ts";
import { createPlatform, makeDataDir } from "./platform.ts";
import { stopInTime } from "./stop.ts";
import { type Listen, listenWithTls } from "./tls.ts";

export interface Served {
  readonly meshca: Meshca;
  /** Where it listens, `host:port`. */
  readonly listen: string;
  readonly url: string;
  /** Stops accepting, answers watchers, finishes what is being signed. */
  close(): Promise<void>;
}

/** Starts serving. @param listenPlain the runtime's own server. @throws {CaError} @throws {Error} when the address is taken */
export async function serveWith(listenPlain: Listen, settings: Settings): Promise<Served> {
  if (settings.store.kind !== "memory") makeDataDir(settings.dataDir);
  const platform = createPlatform(settings);
  let meshca: Meshca | null = null;
  // Listens first, so that the CA knows its own address, also where the system chose the port.
  const server = await (settings.tls === null ? listenPlain : listenWithTls(settings.tls, platform))(
    settings,
    (request, environment) => meshca?.fetch(request, environment) ?? new Response(null, { status: 503 }),
  );
  const listen = { host: settings.listen.host, port: server.port };
  try {
    const composed = await compose({ ...settings, listen }, platform);
    try {
      await composed.start();
      await server.start?.(composed.manager);
    } catch (error) {
      await composed.close();
      throw error;
    }
    meshca = composed;
    const loops = composed.run();
    const address = `${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${listen.port}`;
    return {
      meshca: composed,
      listen: address,
      url: `${settings.tls === null ? "http" : "https"}://${address}`,
      async close() {
        const stopped = stopInTime(server);
        composed.drain();
        await stopped;
        await composed.close();
        await loops;
      },
    };
  } catch (error) {
    await server.stop(true);
    throw error;
  }
}
