/**
 * Envoy with secrets by REST from an agent's Unix socket, the only way by REST while access control is
 * on: it follows a rotation.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { connect } from "node:tls";
import { inAgentFolder, startAgent } from "../fixtures/agent.ts";
import { startServer } from "../fixtures/process.ts";
import { clientCommand, noClient } from "./clients.ts";
import { envoyCommand } from "./envoy.ts";
import { freeAddress, startProgram } from "./programs.ts";

type Address = Awaited<ReturnType<typeof freeAddress>>;

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";

/** The serial number of the certificate that a server shows, once it has answered; else null. */
function shown({ host, port }: Address, folder: string): Promise<string | null> {
  const read = (name: string) => readFileSync(join(folder, "..data", name));
  const [cert, key, ca] = [read("tls.crt"), read("tls.key"), read("ca.crt")];
  return new Promise((resolve) => {
    const socket = connect({
      ...{ host, port, cert, key, ca },
      // The leaf has no DNS name; the caller compares its serial number.
      checkServerIdentity: () => undefined,
    });
    socket.once("data", () => {
      const { serialNumber } = socket.getPeerX509Certificate() ?? { serialNumber: null };
      socket.destroy();
      resolve(serialNumber);
    });
    socket.once("error", () => resolve(null));
    socket.once("close", () => resolve(null));
  });
}

const written = (folder: string) =>
  new X509Certificate(readFileSync(join(folder, "tls.crt"))).serialNumber;

/** Waits until Envoy shows the certificate in the folder, and answers. @returns its serial number */
async function sameIn(folder: string, at: Address, output: () => string): Promise<string> {
  for (let tries = 0; tries < 1200; tries++) {
    const serial = await shown(at, folder);
    if (serial !== null && serial === written(folder)) return serial;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`Envoy does not show ${written(folder)}: ${output()}`);
}

describe("Envoy by REST from a Unix socket", { skip: noClient("envoy") }, () => {
  it(
    "serves the leaf of an agent with access control, through a rotation",
    {
      timeout: 600_000,
    },
    () =>
      inAgentFolder(async (folder) => {
        const server = await startServer({
          MESHCA_ACL: "deny",
          MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
        });
        const token = join(folder, "token");
        writeFileSync(token, MANAGEMENT, { mode: 0o600 });
        const [files, listen] = [join(folder, "web"), `unix:${join(folder, "listen.sock")}`];
        const flags = ["--server", server.url, "--service", "web", "--token-file", token];
        const agent = await startAgent([...flags, "--dir", files, "--listen", listen]);
        const origin = createServer((socket) => socket.on("error", () => undefined).end("ok\n"));
        const at = await freeAddress();
        await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
        const own = join(folder, "envoy");
        mkdirSync(own);
        const behind = origin.address();
        assert.ok(typeof behind === "object" && behind !== null);
        const envoy = await startProgram(
          envoyCommand(
            await clientCommand("envoy"),
            own,
            { kind: "rest", address: listen },
            {
              inbound: `${at.host}:${at.port}`,
              outbound: "127.0.0.1:0",
              origin: `127.0.0.1:${behind.port}`,
              server: `127.0.0.1:${behind.port}`,
            },
          ) as readonly [string, ...string[]],
          at,
        );
        try {
          const before = await sameIn(files, at, envoy.output);
          const put = async (path: string, body: unknown) => {
            const response = await fetch(`${server.url}/v1/connect/ca/${path}`, {
              method: "PUT",
              headers: { "X-Consul-Token": MANAGEMENT },
              body: JSON.stringify(body),
            });
            assert.equal(response.status, 200, await response.text());
          };
          // With a rate the window of a root change has its least length.
          await put("configuration", { Provider: "consul", Config: { CSRMaxPerSecond: 1000 } });
          await put("rotate", {});
          while (written(files) === before)
            await new Promise((resolve) => setTimeout(resolve, 100));
          assert.notEqual(await sameIn(files, at, envoy.output), before);
        } finally {
          await envoy.stop();
          origin.close();
          await agent.stop();
          await server.stop();
        }
      }),
  );
});
