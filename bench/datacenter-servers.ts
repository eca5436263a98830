/**
 * Datacenters to measure: a primary, and secondaries that joined it, all with access control.
 * @module
 */
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CLUSTER } from "./requests.ts";
import { type BenchServer, startServer } from "./server.ts";

/** Of every datacenter. It has the right to intermediates, too. */
export const TOKEN = crypto.randomUUID();

const COMMON = {
  MESHCA_ACL: "deny",
  MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
  MESHCA_PRIMARY_DATACENTER: "dc1",
};

/** What all servers of a measurement share. */
export interface Deployment {
  /** For their data folders. */
  readonly folder: string;
  readonly runtime: readonly string[];
}

/** A primary datacenter, which serves TLS with a certificate of its CA if `tls` says so. */
export interface Primary extends BenchServer {
  readonly tls: boolean;
}

/** Starts the primary datacenter dc1. */
export async function startPrimary(
  { folder, runtime }: Deployment,
  tls: boolean,
): Promise<Primary> {
  const server = await startServer(
    mkdtempSync(join(folder, "dc1-")),
    { cluster_id: CLUSTER },
    { environment: { ...COMMON, ...(tls ? { MESHCA_TLS: "self" } : {}) }, runtime },
  );
  return { ...server, tls };
}

/** Starts a secondary datacenter, which serves plain HTTP, and waits until it has joined. */
export async function startSecondary(
  { folder, runtime }: Deployment,
  name: string,
  primary: Primary,
): Promise<BenchServer> {
  const data = mkdtempSync(join(folder, `${name}-`));
  const url = `${primary.tls ? "https" : "http"}://127.0.0.1:${primary.port}`;
  const caFile = join(data, "primary.pem");
  const roots = await fetch(`${url}/v1/connect/ca/roots?pem=true`, {
    tls: { rejectUnauthorized: false },
  });
  writeFileSync(caFile, await roots.text());
  const server = await startServer(
    data,
    {},
    {
      environment: {
        ...COMMON,
        MESHCA_DATACENTER: name,
        MESHCA_PRIMARY_SERVERS: url,
        MESHCA_REPLICATION_TOKEN: TOKEN,
        ...(primary.tls ? { MESHCA_PRIMARY_CA_FILE: caFile } : {}),
      },
      runtime,
    },
  );
  while (!(await fetch(`http://127.0.0.1:${server.port}/v1/connect/ca/roots`)).ok)
    await Bun.sleep(50);
  return server;
}
