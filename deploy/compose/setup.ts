/**
 * Makes what the agent of compose.yaml needs and does not have yet: a token that may write the
 * services web and api, and the roots by which it verifies the replicas.
 *
 * It shares the network of replica-1 and asks on loopback, so that the first contact, which cannot
 * be verified, stays inside that container.
 * @module
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

const SERVER = "https://127.0.0.1:8500";
/** How long the CA may take to start, in milliseconds. */
const READY_MS = 300_000;

const token = readFileSync("/secrets/management-token", "utf8").trim();

async function call(method: string, path: string, body?: object): Promise<Response> {
  const answer = await fetch(`${SERVER}${path}`, {
    method,
    headers: { "X-Consul-Token": token, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    tls: { rejectUnauthorized: false },
  });
  return answer;
}

async function must(method: string, path: string, body?: object): Promise<Response> {
  const answer = await call(method, path, body);
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer;
}

async function untilReady(): Promise<void> {
  for (const end = Date.now() + READY_MS; ; ) {
    const answer = await call("GET", "/readyz").catch((error: unknown) => String(error));
    if (typeof answer !== "string" && answer.ok) return;
    const reason = typeof answer === "string" ? answer : await answer.text();
    if (Date.now() > end) throw new Error(`replica-1 is not ready: ${reason}`);
    await Bun.sleep(500);
  }
}

function write(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

await untilReady();
const roots = await must("GET", "/v1/connect/ca/roots?pem=true");
write("/run/meshca/roots.pem", await roots.text());
if (!existsSync("/run/meshca/token")) {
  const made = await must("PUT", "/v1/acl/token", {
    Description: "agent of compose.yaml",
    ServiceIdentities: [{ ServiceName: "web" }, { ServiceName: "api" }],
  });
  write("/run/meshca/token", ((await made.json()) as { SecretID: string }).SecretID);
}
