/**
 * Agents that are cut off during a forced rotation: their workloads fail, the rest of the mesh goes on,
 * and they follow as soon as they are back.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { it } from "node:test";
import { connect, createServer } from "node:tls";
import { eventually } from "../client/agent-parts.ts";
import { createProxy } from "../faults/proxy.ts";
import { AGENT_RUNTIMES, inAgentFolder, startAgent } from "../fixtures/agent.ts";
import { startServer } from "../fixtures/process.ts";

const read = (folder: string, name: string) => readFileSync(join(folder, name), "utf8");
const certificatesIn = (text: string) => text.split("-----BEGIN CERTIFICATE").length - 1;
const issuerOf = (folder: string) => new X509Certificate(read(folder, "tls.crt")).issuer;

function credentials(folder: string) {
  return {
    cert: read(folder, "tls.crt"),
    key: read(folder, "tls.key"),
    ca: read(folder, "ca.crt"),
  };
}

/** Mutual TLS between the services of two folders. @returns why it failed, or null */
async function handshake(client: string, server: string): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const listener = createServer({ ...credentials(server), requestCert: true });
  listener.on("tlsClientError", (error) => resolve(`server: ${error.message}`));
  listener.on("secureConnection", (socket) => socket.on("error", () => undefined).end("welcome"));
  await new Promise<void>((listens) => listener.listen(0, "127.0.0.1", listens));
  const { port } = listener.address() as AddressInfo;
  const socket = connect({
    ...credentials(client),
    host: "127.0.0.1",
    port,
    checkServerIdentity: () => undefined,
  });
  socket.on("error", (error) => resolve(`client: ${error.message}`));
  // With TLS 1.3 the client has connected before the server has verified it.
  socket.on("data", () => resolve(null));
  try {
    return await promise;
  } finally {
    socket.destroy();
    listener.close();
  }
}

it(
  "agents that are cut off during a forced rotation fail, the mesh goes on, and they are back at once",
  {
    timeout: 300_000,
  },
  () =>
    inAgentFolder(async (folder) => {
      const server = await startServer({ MESHCA_MAX_CHAIN_LENGTH: "3" });
      const network = await createProxy(server.port);
      const put = async (path: string, body: unknown) => {
        const response = await fetch(`${server.url}/v1/connect/ca/${path}`, {
          method: "PUT",
          body: JSON.stringify(body),
        });
        assert.equal(response.status, 200, await response.text());
        return response.headers.get("X-Meshca-Abandoned-Roots");
      };
      // With a rate the window of a root change has its least length.
      await put("configuration", { Provider: "consul", Config: { CSRMaxPerSecond: 1000 } });
      const start = (url: string, service: string, runtime: (typeof AGENT_RUNTIMES)[number]) =>
        startAgent(["--server", url, "--service", service, "--dir", join(folder, service)], {
          runtime,
        });
      const present = ["web", "api"].map((service) => join(folder, service));
      const [web = "", api = ""] = present;
      const absent = AGENT_RUNTIMES.map((runtime) => ({ runtime, path: join(folder, runtime) }));
      const agents = await Promise.all([
        start(server.url, "web", "bun"),
        start(server.url, "api", "bun"),
        ...AGENT_RUNTIMES.map((runtime) =>
          start(`http://127.0.0.1:${network.port}`, runtime, runtime),
        ),
      ]);
      for (const { path } of absent) assert.equal(await handshake(path, web), null);
      const first = issuerOf(web);

      network.lead(null);
      network.cut();
      for (let rotation = 0; rotation < 2; rotation++) assert.equal(await put("rotate", {}), null);
      assert.notEqual(await put("rotate", { ForceWithoutCrossSigning: true }), null);
      await eventually(() => present.every((path) => certificatesIn(read(path, "ca.crt")) === 4));
      const moved = new Set<string>();
      await eventually(async () => {
        assert.equal(await handshake(web, api), null);
        for (const path of present) if (issuerOf(path) !== first) moved.add(path);
        return moved.size === present.length && certificatesIn(read(web, "tls.crt")) === 3;
      });
      for (const { path } of absent) {
        assert.equal(certificatesIn(read(path, "ca.crt")), 1);
        assert.match(
          (await handshake(path, web)) ?? "",
          /^client: (?:self-signed certificate in certificate chain|unable to (?:get|verify))/,
        );
      }

      const back = performance.now();
      network.lead(server.port);
      await Promise.all(
        absent.map(async ({ runtime, path }) => {
          await eventually(() => certificatesIn(read(path, "ca.crt")) === 4);
          console.log(`${runtime}: roots ${Math.round(performance.now() - back)} ms after`);
          assert.equal(await handshake(path, web), null);
          assert.equal(await handshake(web, path), null);
          console.log(`${runtime}: both ways ${Math.round(performance.now() - back)} ms after`);
        }),
      );
      await eventually(() => absent.every(({ path }) => issuerOf(path) !== first));
      for (const { path } of absent) assert.equal(await handshake(path, api), null);
      for (const agent of agents) assert.equal((await agent.stop()).code, 0);
      network.close();
      await server.stop();
    }),
);
