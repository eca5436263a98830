/**
 * What serving is on every server runtime: listens with TLS or without, makes the CA ready, and
 * ends in order.
 * @module
 */
import type { Meshca } from "../compose/process.ts";
import { notYet, Start } from "../compose/start.ts";
import { hostPort } from "../config/addresses.ts";
import type { Settings } from "../config/settings.ts";
import { listenFailed } from "./listen-platform.ts";
import { createPlatform, type ProcessPlatform, prepareData } from "./platform.ts";
import { stopInTime } from "./stop.ts";
import { type Listen, listenWithTls } from "./tls.ts";

export interface Served {
  /** Where it listens, `host:port`. */
  readonly listen: string;
  readonly url: string;
  readonly platform: ProcessPlatform;
  /**
   * Resolves once the CA answers. Rejects with a CaError if it cannot start like this, or if it is
   * closed before.
   */
  readonly ready: Promise<Meshca>;
  /** Reads the files for TLS now. */
  reload(): void;
  /** Stops accepting, answers watchers, finishes what is being signed. */
  close(): Promise<void>;
}

/**
 * Starts to listen and to make the CA ready.
 * @param listenPlain the runtime's own server.
 * @throws {CaError}
 * @throws {Error} if the address is in use
 */
export async function serveWith(listenPlain: Listen, settings: Settings): Promise<Served> {
  prepareData(settings);
  const platform = createPlatform(settings);
  const closing = new AbortController();
  // Listens first, so that the CA knows its own address, also if the system chose the port, and is
  // watched from the start.
  const start: { current: Start | null } = { current: null };
  const server = await (settings.tls === null
    ? listenPlain
    : listenWithTls(settings.tls, platform))(
    settings,
    (request, environment) => start.current?.fetch(request, environment ?? {}) ?? notYet(),
  ).catch(listenFailed(settings.listen));
  const listen = { host: settings.listen.host, port: server.port };
  start.current = new Start(
    { ...settings, listen },
    platform,
    () => server.certificates?.shown ?? null,
  );
  const ready = start.current.run(
    async ({ manager }) => server.certificates?.start(manager),
    closing.signal,
  );
  const running = ready.then((meshca) => meshca.run());
  running.catch(() => undefined);
  const address = hostPort(listen.host, listen.port);
  return {
    listen: address,
    url: `${settings.tls === null ? "http" : "https"}://${address}`,
    platform,
    ready,
    reload: () => server.certificates?.reload(),
    async close() {
      const stopped = stopInTime(server);
      closing.abort();
      const meshca = await ready.catch(() => null);
      meshca?.drain();
      await stopped;
      await meshca?.close();
      await running.catch(() => undefined);
    },
  };
}
