/**
 * Datacenters as real processes: a primary with access control and TLS of its own CA, and others
 * that follow it.
 * @module
 */
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Command, type ServerProcess, startServer } from "../fixtures/process.ts";

export const MANAGEMENT = "11111111-2222-4333-8444-555555555555";

export interface Datacenters {
  readonly primary: ServerProcess;
  /** A token of the primary by which a secondary has its intermediate signed. */
  readonly replicationToken: string;
  /** PEM of the primary's roots. */
  readonly caFile: string;
  /** `sha256:HEX` of the primary's root. */
  readonly caPin: string;
  start(
    datacenter: string,
    more?: Readonly<Record<string, string>>,
    command?: Command,
  ): Promise<ServerProcess>;
  stop(): Promise<void>;
}

/** @param more variables of the primary. */
export async function startDatacenters(
  more: Readonly<Record<string, string>> = {},
): Promise<Datacenters> {
  const folder = mkdtempSync(join(tmpdir(), "meshca-datacenters-"));
  const servers: ServerProcess[] = [];
  const common = {
    MESHCA_ACL: "deny",
    MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
    MESHCA_TLS: "self",
    MESHCA_PRIMARY_DATACENTER: "dc1",
  };
  const primary = await startServer({ ...common, ...more });
  servers.push(primary);
  const caFile = join(folder, "ca.pem");
  const roots = await call(primary, "GET", "/v1/connect/ca/roots?pem=true");
  writeFileSync(caFile, roots);
  const policy = JSON.parse(
    await call(primary, "PUT", "/v1/acl/policy", { Name: "dc", Rules: 'intermediate = "write"' }),
  ) as { ID: string };
  const token = JSON.parse(
    await call(primary, "PUT", "/v1/acl/token", { Policies: [{ ID: policy.ID }] }),
  ) as { SecretID: string };
  return {
    primary,
    replicationToken: token.SecretID,
    caFile,
    caPin: `sha256:${createHash("sha256").update(new X509Certificate(roots).raw).digest("hex")}`,
    async start(datacenter, more = {}, command) {
      const server = await startServer(
        {
          ...common,
          MESHCA_DATACENTER: datacenter,
          MESHCA_PRIMARY_SERVERS: primary.url,
          MESHCA_PRIMARY_CA_FILE: caFile,
          MESHCA_REPLICATION_TOKEN: token.SecretID,
          ...more,
        },
        [],
        command,
      );
      servers.push(server);
      return server;
    },
    async stop() {
      for (const server of servers.toReversed()) await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A request whose server is not verified: it is the one that the test started. */
export async function call(
  { url }: Pick<ServerProcess, "url">,
  method: string,
  path: string,
  body: object | string | null = null,
  headers: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { status, text } = await ask({ url }, method, path, body, headers);
  if (status !== 200) throw new Error(`${method} ${path}: ${status} ${text}`);
  return text;
}

/** @returns the response, with its X-Consul-Index, or 0. */
export async function ask(
  { url }: Pick<ServerProcess, "url">,
  method: string,
  path: string,
  body: object | string | null = null,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ readonly status: number; readonly text: string; readonly index: number }> {
  const { request } = await import("node:https");
  const sent = body === null ? null : typeof body === "string" ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const outgoing = request(
      `${url}${path}`,
      {
        method,
        rejectUnauthorized: false,
        headers: {
          "X-Consul-Token": MANAGEMENT,
          ...headers,
          ...(sent === null ? {} : { "Content-Length": String(Buffer.byteLength(sent)) }),
        },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            text,
            index: Number(response.headers["x-consul-index"] ?? 0),
          }),
        );
        response.on("error", reject);
      },
    );
    outgoing.on("error", reject);
    outgoing.end(sent);
  });
}
