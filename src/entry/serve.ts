/**
 * Serves on every server runtime: listens with TLS or without, starts the CA, and closes in order.
 * @module
 */
import type { Meshca } from "../compose/process.ts";
import { notYet, Start } from "../compose/start.ts";
import { hostPort, ownAddress } from "../config/addresses.ts";
import type { DatacenterSettings } from "../config/datacenters.ts";
import type { Settings } from "../config/settings.ts";
import { prepareData } from "./data-platform.ts";
import { type Listen, listenWithTls, stopInTime } from "./listen.ts";
import { listenFailed } from "./listen-error.ts";
import { createPlatform, type ProcessPlatform } from "./platform.ts";

export interface Served {
  /** The address that it listens on, `host:port`. */
  readonly listen: string;
  /** The address of this replica, as others know it, `host:port`. */
  readonly advertised: string;
  readonly url: string;
  readonly platform: ProcessPlatform;
  /** Resolves once the CA answers. Rejects with a CaError if it cannot start, or is closed before. */
  readonly ready: Promise<Meshca>;
  /** Reads the TLS files now. */
  reload(): void;
  /** Uses other settings of datacenters from now on. */
  useDatacenters(next: DatacenterSettings): void;
  /** Stops accepting, answers blocked queries, and finishes requests in progress. */
  close(): Promise<void>;
}

/**
 * Starts to listen, and starts the CA.
 * @param listenPlain the runtime's own server.
 * @throws {CaError}
 * @throws {Error} if the address is in use
 */
export async function serveWith(listenPlain: Listen, settings: Settings): Promise<Served> {
  prepareData(settings);
  const platform = createPlatform(settings);
  const closing = new AbortController();
  // Listens first: the CA needs its own address, even if the system chose the port, and health
  // checks are answered from the start.
  let start: Start | null = null;
  const listenOn = settings.tls === null ? listenPlain : listenWithTls(settings.tls, platform);
  const server = await listenOn(
    settings,
    (request, environment = {}) => start?.fetch(request, environment) ?? notYet(),
  ).catch((error: unknown) => listenFailed(settings.listen, error));
  const { certificates } = server;
  const listen = { host: settings.listen.host, port: server.port };
  const starting = new Start({ ...settings, listen }, platform, () => certificates?.shown ?? null);
  start = starting;
  const ready = starting.run(async ({ ca }) => certificates?.start(ca), closing.signal);
  const running = ready.then((meshca) => meshca.run());
  running.catch(() => undefined);
  const address = hostPort(listen.host, listen.port);
  return {
    listen: address,
    advertised: ownAddress({ ...settings, listen }, platform.process?.addresses()),
    url: `${settings.tls === null ? "http" : "https"}://${address}`,
    platform,
    ready,
    reload: () => certificates?.reload(),
    useDatacenters: (next) => starting.reload(next),
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
