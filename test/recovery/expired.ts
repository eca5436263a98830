/**
 * Data folders of a real server that ran years ago: everything that it made has expired by now.
 * @module
 */
import { cpSync, mkdtempSync, readFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Command, type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";

const DAY_MS = 86_400_000;
/** Longer ago than the default life of a root, 87600h, which is 3650 days. */
const AGO_MS = 3700 * DAY_MS;

export const TOKEN = "2b9f1c6e-7d4a-4a51-9a0e-3f6d8c1b2a90";
/** Access control is on, with one management token. */
export const WITH_ACL = { MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN };

/** Bun with a clock that is behind by the age of the folder. */
const LONG_AGO: Command = [
  process.execPath,
  "--preload",
  join(ROOT, "test/recovery/shifted-clock.ts"),
];

/**
 * Runs a server whose clock is ten years behind, does something with it, and ends it.
 * @param environment as of `startServer` @returns its data folder, in which all has expired
 */
export async function makeExpiredFolder(
  environment: Readonly<Record<string, string>>,
  work: (server: ServerProcess) => Promise<void> = async () => undefined,
): Promise<string> {
  const dataDir = mkdtempSync(join(tmpdir(), "meshca-expired-"));
  const server = await startServer(
    {
      ...environment,
      MESHCA_DATA_DIR: dataDir,
      TEST_CLOCK_SHIFT_MS: String(-AGO_MS),
    },
    [],
    LONG_AGO,
  );
  try {
    await work(server);
  } finally {
    await server.stop();
  }
  return dataDir;
}

/** A copy of a data folder, for one more server. */
export function copyOf(dataDir: string): string {
  const copy = mkdtempSync(join(tmpdir(), "meshca-expired-"));
  cpSync(dataDir, copy, { recursive: true, preserveTimestamps: true });
  return copy;
}

/** A call with the management token to a server that nobody verifies. @throws if it is not 200 */
export function callUnverified(url: string, method = "GET", body: object | null = null) {
  return new Promise<string>((resolve, reject) => {
    const options = { method, rejectUnauthorized: false, headers: { "X-Consul-Token": TOKEN } };
    const sent = request(url, options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`${method} ${url}: ${response.statusCode}: ${text}`));
      });
    });
    sent.on("error", reject).end(body === null ? undefined : JSON.stringify(body));
  });
}

/** A token that may sign leaves of a service, made by the management token. */
export async function serviceToken(url: string, service: string): Promise<string> {
  const body = { ServiceIdentities: [{ ServiceName: service }] };
  const answer = await callUnverified(`${url}/v1/acl/token`, "PUT", body);
  return (JSON.parse(answer) as { readonly SecretID: string }).SecretID;
}

/** The fingerprint in the data folder of a server with TLS. */
export const pinIn = (dataDir: string): string =>
  readFileSync(join(dataDir, "tls-fingerprint"), "utf8").trim();
