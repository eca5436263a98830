/**
 * `meshca serve`: runs the CA until it is stopped by a signal.
 * @module
 */
import { closeSync, openSync, readFileSync } from "node:fs";
import { CONSUL_CONFIG_NAMES } from "../../../providers/consul/config.ts";
import { VAULT_CONFIG_NAMES } from "../../../providers/vault/config.ts";
import type { Meshca } from "../../compose/process.ts";
import { reachableAddresses } from "../../config/addresses.ts";
import type { DatacenterSettings } from "../../config/datacenters.ts";
import { readSettings, type Settings } from "../../config/settings.ts";
import { serve } from "../../entry/runtime.ts";
import type { Served } from "../../entry/serve.ts";
import { VERSION } from "../../version.ts";
import { banner } from "../banner.ts";
import { describe, exitCode } from "../output.ts";

/** How long a process that closed everything may take to end, in milliseconds. */
const LINGER_MS = 100;
/** Milliseconds in which a signal that is sent again is the same request to stop. */
const REPEAT_MS = 1000;

/** The settings of this environment. @throws {ConfigError} */
export function settingsOf(environment: NodeJS.ProcessEnv): Settings {
  return readSettings(environment, (path) => readFileSync(path, "utf8"), [
    ...new Set([...CONSUL_CONFIG_NAMES, ...VAULT_CONFIG_NAMES]),
  ]);
}

/** Serves. @param worker its number among the workers, or null. @returns the exit code */
export async function serveCommand(worker: number | null = null): Promise<number> {
  let served: Served | null = null;
  try {
    const settings = { ...settingsOf(process.env), worker };
    // First, so that a stop during the start is not lost.
    const stopped = stopAsked(worker !== null);
    let hangUp: () => void = () => undefined;
    process.on("SIGHUP", () => hangUp());
    served = await serve(settings);
    const { log } = served.platform;
    log.info("Listening", {
      url: served.url,
      advertise: served.advertised,
      version: VERSION,
      store: describeStore(settings.store),
      ...workerField(worker),
    });
    if (worker === null || worker === 0) warnOfChosenAddress(settings, served);
    hangUp = reloader(settings, served);
    const meshca = await Promise.race([served.ready, stopped]);
    if (typeof meshca !== "string") {
      log.info("Ready", {
        url: served.url,
        ...stateFields(meshca, settings),
        ...workerField(worker),
      });
      const text = banner({ url: served.url, meshca, settings });
      if (worker !== null)
        process.send?.({ listen: served.listen, url: served.url, greeting: text });
      else if (process.stdout.isTTY) process.stdout.write(text);
    }
    log.info("Stopping", { reason: await stopped });
  } catch (error) {
    await served?.close();
    process.stderr.write(`${describe(error)}\n`);
    return exitCode(error);
  }
  await served.close();
  served.platform.log.info("Stopped");
  // An open connection may keep the process alive.
  setTimeout(() => process.exit(), LINGER_MS).unref();
  if (worker !== null) process.disconnect?.();
  return 0;
}

/**
 * Resolves with the reason when the process must end: a signal, its terminal was closed, or the server
 * of this worker ended.
 */
export function stopAsked(isWorker = false): Promise<string> {
  return new Promise((stop) => {
    // SIGHUP comes from an operator, or from the system when the terminal of the log is closed.
    if (process.stdout.isTTY === true && hasTerminal())
      process.on("SIGHUP", () => {
        if (!hasTerminal()) stop("the terminal was closed");
      });
    for (const signal of ["SIGINT", "SIGTERM"] as const) onStopSignal(signal, () => stop(signal));
    if (isWorker) process.once("disconnect", () => stop("the server of this worker ended"));
  });
}

/**
 * A terminal sends a signal to all processes of the command, and npm and `bin/meshca.mjs` pass it on: this
 * process gets it twice, which asks once. After a moment the same signal has its default action.
 */
function onStopSignal(signal: "SIGINT" | "SIGTERM", stop: () => void): void {
  const handler = () => {
    stop();
    setTimeout(() => process.removeListener(signal, handler), REPEAT_MS).unref();
  };
  process.on(signal, handler);
}

/** Whether the controlling terminal of this process is open (tty(4)). */
function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", "r"));
    return true;
  } catch {
    return false;
  }
}

/** Warns if this machine has several addresses, or none, and the settings do not say which is meant. */
function warnOfChosenAddress(
  { advertised, listen }: Settings,
  { platform, advertised: address }: Served,
): void {
  if (advertised !== null) return;
  const addresses = reachableAddresses(listen.host, platform.process?.addresses() ?? []);
  if (addresses.length !== 1)
    platform.log.warn(
      addresses.length === 0
        ? "This machine has no address that other replicas can reach; set MESHCA_ADVERTISE to the one that they use"
        : "This machine has several addresses, and the first is shown as the address of this replica; set MESHCA_ADVERTISE to choose",
      { advertise: address, addresses: addresses.join(", ") },
    );
}

/** The store without user, password and keys. */
export function describeStore(store: Settings["store"]): string {
  if (store.kind === "memory") return "memory";
  if (store.kind === "sqlite") return `sqlite:${store.path}`;
  const mode = store.mode === "single" ? "" : `${store.mode} `;
  return `redis ${mode}${store.nodes.map(({ host, port }) => `${host}:${port}`).join(",")} (prefix ${store.datacenterPrefix ?? store.prefix})`;
}

/** The CA, and why it cannot sign if it cannot. */
function stateFields(
  { ca }: Meshca,
  { connectEnabled }: Settings,
): Readonly<Record<string, string | number>> {
  const state = ca.snapshot?.state;
  const obstacle = connectEnabled ? ca.obstacle() : "connect is disabled";
  return {
    ...(state === undefined ? {} : { trustDomain: state.trustDomain, index: state.index }),
    ...(obstacle === null ? {} : { obstacle }),
  };
}

const workerField = (worker: number | null) => (worker === null ? {} : { worker });

/** Uses what can change without a restart, and logs the names of other settings that changed. */
function reloader(before: Settings, served: Served): () => void {
  const { log } = served.platform;
  let inUse: DatacenterSettings = before;
  let ca: Meshca["ca"] | null = null;
  served.ready.then(
    (meshca) => {
      ca = meshca.ca;
    },
    // The caller that started the server reports it.
    () => undefined,
  );
  return () => {
    served.reload();
    try {
      const after = { ...settingsOf(process.env), worker: before.worker };
      log.setLevel(after.logLevel);
      // The values may be secrets.
      const changed = (Object.keys(after) as (keyof Settings)[]).filter(
        (name) =>
          !RELOADED.includes(name) && JSON.stringify(after[name]) !== JSON.stringify(before[name]),
      );
      const hasSameRole =
        (after.primary === null) === (before.primary === null) ||
        // A datacenter that was promoted is a primary one before its settings are.
        (after.primary === null && ca?.isSecondary === false);
      inUse = hasSameRole ? after : { ...inUse, datacenters: after.datacenters };
      served.useDatacenters(inUse);
      served.platform.useNamedFiles(after.namedFiles);
      const needRestart = [...changed, ...(hasSameRole ? [] : ["primaryDatacenter"])];
      log.info(
        "Reloaded the TLS files, the log level and the servers of other datacenters after SIGHUP",
        {
          logLevel: after.logLevel,
          ...(needRestart.length > 0 ? { needRestart } : {}),
        },
      );
    } catch (error) {
      log.error(
        "Failed to reload the settings after SIGHUP; keeping the previous settings. The TLS files were reloaded",
        {
          reason: describe(error),
        },
      );
    }
  };
}

/** The settings that are used without a restart. */
const RELOADED: readonly (keyof Settings)[] = [
  "logLevel",
  "primary",
  "primaryDatacenter",
  "datacenters",
  "namedFiles",
];
