/**
 * `meshca serve`: runs the CA until it is told to stop.
 * @module
 */
import { readFileSync } from "node:fs";
import { CONSUL_CONFIG_NAMES } from "../../../providers/consul/config.ts";
import { readSettings } from "../../config/settings.ts";
import { trustDomainOf } from "../../core/spiffe/kinds.ts";
import { type Served, serve } from "../../entry/bun.ts";
import { describe, exitCode } from "../output.ts";

/** @returns the exit code */
export async function serveCommand(): Promise<number> {
  let served: Served;
  try {
    const settings = readSettings(process.env, (path) => readFileSync(path, "utf8"), CONSUL_CONFIG_NAMES);
    served = await serve(settings);
    process.stdout.write(greeting(served, settings.datacenter));
  } catch (error) {
    process.stderr.write(`${describe(error)}\n`);
    return exitCode(error);
  }
  await new Promise((stop) => {
    process.once("SIGINT", stop);
    process.once("SIGTERM", stop);
  });
  await served.close();
  return 0;
}

function greeting({ url, meshca }: Served, datacenter: string): string {
  const clusterId = meshca.manager.snapshot?.state.clusterId;
  if (clusterId === undefined) return `meshca listens on ${url} (connect is disabled)\n`;
  const trustDomain = trustDomainOf(clusterId);
  return `meshca listens on ${url}
trust domain ${trustDomain}

Get a leaf:
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout web.key -subj / -addext "subjectAltName=URI:spiffe://${trustDomain}/ns/default/dc/${datacenter}/svc/web" | curl -fsS --data-binary @- ${url}/v1/connect/ca/sign

`;
}
