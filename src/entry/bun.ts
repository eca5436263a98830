/**
 * Serves on Bun.
 * @module
 */
import { compose, type Meshca } from "../compose.ts";
import type { Settings } from "../config/settings.ts";
import { createPlatform, makeDataDir } from "./platform.ts";

export interface Served {
  readonly meshca: Meshca;
  readonly url: string;
  /** Stops accepting, answers watchers, finishes what is being signed. */
  close(): Promise<void>;
}

/** Seconds a connection may be silent, blocked queries aside. */
const IDLE_SECONDS = 30;
/** Above the largest body that any route reads; larger ones are cut off by the runtime. */
const MAX_BODY = 128 * 1024;

/** Starts serving. @throws {CaError} @throws {Error} when the address is taken */
export async function serve(settings: Settings): Promise<Served> {
  if (settings.store.kind !== "memory") makeDataDir(settings.dataDir);
  let meshca: Meshca | null = null;
  // Listens first, so that the CA knows its own address, also where the system chose the port.
  const server = Bun.serve({
    hostname: settings.listen.host,
    port: settings.listen.port,
    reusePort: settings.worker !== null,
    idleTimeout: IDLE_SECONDS,
    maxRequestBodySize: MAX_BODY,
    fetch: (request, runtime) =>
      meshca?.fetch(request, { holdOpen: () => runtime.timeout(request, 0) }) ?? new Response(null, { status: 503 }),
  });
  const listen = { host: settings.listen.host, port: server.port ?? settings.listen.port };
  try {
    const composed = await compose({ ...settings, listen }, createPlatform(settings));
    await composed.start().catch(async (error: unknown) => {
      await composed.close();
      throw error;
    });
    meshca = composed;
    const loops = composed.run();
    return {
      meshca: composed,
      url: `http://${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${listen.port}`,
      async close() {
        const stopped = server.stop();
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
