/**
 * `meshca serve`: runs the CA until it is told to stop.
 * @module
 */
import { readFileSync } from "node:fs";
import { CONSUL_CONFIG_NAMES } from "../../../providers/consul/config.ts";
import { VAULT_CONFIG_NAMES } from "../../../providers/vault/config.ts";
import { readSettings, type Settings } from "../../config/settings.ts";
import { trustDomainOf } from "../../core/spiffe/kinds.ts";
import { serve } from "../../entry/runtime.ts";
import type { Served } from "../../entry/serve.ts";
import { describe, exitCode } from "../output.ts";

/** Milliseconds for a process that has closed everything to end by itself. */
const LINGER_MS = 100;

/** What the environment says. @throws {ConfigError} */
export function settingsOf(environment: NodeJS.ProcessEnv): Settings {
  return readSettings(environment, (path) => readFileSync(path, "utf8"), [...new Set([...CONSUL_CONFIG_NAMES, ...VAULT_CONFIG_NAMES])]);
}

/**
 * Serves alone, or as one of the workers of a server.
 * @param worker the number among the workers, or null.
 * @returns the exit code
 */
export async function serveCommand(worker: number | null = null): Promise<number> {
  let served: Served;
  try {
    const settings = { ...settingsOf(process.env), worker };
    // Before anything else, so that a stop during the start is not lost.
    const stopped = stopAsked(worker !== null);
    served = await serve(settings);
    const text = greeting(served, settings.datacenter);
    if (worker === null) process.stdout.write(text);
    else process.send?.({ listen: served.listen, greeting: text });
    await stopped;
  } catch (error) {
    process.stderr.write(`${describe(error)}\n`);
    return exitCode(error);
  }
  await served.close();
  // What a client holds open may still hold the process.
  setTimeout(() => process.exit(), LINGER_MS).unref();
  if (worker !== null) process.disconnect?.();
  return 0;
}

/** Resolves when the process is told to end; a worker also when its server is gone. */
export function stopAsked(isWorker = false): Promise<void> {
  return new Promise((stop) => {
    process.once("SIGINT", () => stop());
    process.once("SIGTERM", () => stop());
    if (isWorker) process.once("disconnect", () => stop());
  });
}

function greeting({ url, meshca }: Served, datacenter: string): string {
  const clusterId = meshca.manager.snapshot?.state.clusterId;
  if (clusterId === undefined)
    return `meshca listens on ${url} (${meshca.manager.status.stopped === null ? "connect is disabled" : "changes are stopped, see /readyz"})\n`;
  const trustDomain = trustDomainOf(clusterId);
  return `meshca listens on ${url}
trust domain ${trustDomain}

Get a leaf:
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout web.key -subj / -addext "subjectAltName=URI:spiffe://${trustDomain}/ns/default/dc/${datacenter}/svc/web" | curl -fsS${url.startsWith("https:") ? " --cacert CA.pem" : ""} --data-binary @- ${url}/v1/connect/ca/sign

`;
}
