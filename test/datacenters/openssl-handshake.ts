/**
 * A handshake by mutual TLS between `openssl s_client` and `openssl s_server`, with the files of
 * services.
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Service } from "../recovery/handshakes.ts";
import { freePort } from "../redis/server.ts";

/**
 * One handshake, in which both sides verify the other one's certificate.
 * @throws {Error} with what both wrote, if one of them refuses the other
 */
export async function shakeHandsByOpenssl(client: Service, server: Service): Promise<void> {
  const address = `127.0.0.1:${await freePort()}`;
  const listener = spawn("openssl", [
    ...["s_server", "-accept", address, "-Verify", "9", "-www", ...optionsOf(server)],
  ]);
  const [served, ended] = [outputOf(listener), endOf(listener)];
  try {
    for (let tries = 1; ; tries++) {
      const caller = spawn("openssl", [
        ...["s_client", "-connect", address, "-verify", "9", "-ign_eof", ...optionsOf(client)],
      ]);
      const output = outputOf(caller);
      caller.stdin.end("GET / HTTP/1.0\r\n\r\n");
      await endOf(caller);
      // The server answers once it has verified the client's certificate.
      if (/HTTP\/1\.0 200 ok/i.test(output()) && /^ *Verify return code: 0 \(ok\)/m.test(output()))
        return;
      // It does not listen yet.
      if (!/connection refused|connect:errno/i.test(output()) || tries === 100)
        throw new Error(`${client.name} to ${server.name}: ${output().slice(-2000)}\n${served()}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    listener.kill("SIGKILL");
    await ended;
  }
}

/** The options of either side for the files of a service. */
function optionsOf({ folder }: Service): string[] {
  const [leaf, ...chain] =
    readFileSync(join(folder, "tls.crt"), "utf8").match(
      /-----BEGIN[^-]*-----[^-]*-----END[^-]*-----\n/g,
    ) ?? [];
  writeFileSync(join(folder, "leaf.pem"), leaf ?? "");
  writeFileSync(join(folder, "chain.pem"), chain.join(""));
  return [
    ...["-cert", join(folder, "leaf.pem"), "-key", join(folder, "tls.key")],
    ...(chain.length === 0 ? [] : ["-cert_chain", join(folder, "chain.pem")]),
    ...["-CAfile", join(folder, "ca.crt"), "-no-CApath", "-verify_return_error"],
  ];
}

function outputOf({ stdout, stderr }: ChildProcess): () => string {
  let text = "";
  for (const stream of [stdout, stderr])
    stream?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
  return () => text;
}

const endOf = (child: ChildProcess) =>
  new Promise<void>((resolve) => child.once("close", () => resolve()));
