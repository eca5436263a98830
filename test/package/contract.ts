/**
 * What an installed meshca has to do, however it was installed.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import about from "../../package.json" with { type: "json" };
import { inAgentFolder } from "../fixtures/agent.ts";
import { type Program, run, serve } from "./program.ts";

/** Milliseconds that no test needs, on the slowest machine. */
export const PATIENCE_MS = 300_000;

/** @param program called in each test, since it is installed before them. */
export function describeInstalled(program: () => Program, workers: boolean): void {
  it("prints its version", { timeout: PATIENCE_MS }, async () => {
    const { code, stdout, stderr } = await run(program(), "--version");
    assert.deepEqual([code, stdout, stderr], [0, `${about.version}\n`, ""]);
  });

  it("serves, and its agent gets a leaf", { timeout: PATIENCE_MS }, () =>
    inAgentFolder(async (folder) => {
      const server = await serve(program(), dataIn(folder));
      try {
        await getsLeaf(program(), server.url, join(folder, "web"));
      } finally {
        // Its output is closed once meshca has ended, also if a process between them ended before.
        const { code } = await server.stop();
        if (program().starter !== true) assert.equal(code, 0);
      }
    }),
  );

  if (workers)
    it("serves with workers", { timeout: PATIENCE_MS }, () =>
      inAgentFolder(async (folder) => {
        const server = await serve(program(), dataIn(folder), "--workers", "2");
        try {
          await getsLeaf(program(), server.url, join(folder, "web"));
        } finally {
          assert.equal((await server.stop()).code, 0);
        }
      }),
    );
}

export function dataIn(folder: string): string {
  const data = join(folder, "data");
  mkdirSync(data, { mode: 0o700 });
  return data;
}

/** The agent of a program writes a leaf that the roots of its server verify. */
export async function getsLeaf(program: Program, url: string, folder: string): Promise<void> {
  const { code, stdout, stderr } = await run(
    program,
    ...["agent", "--once", "--server", url, "--service", "web", "--dir", folder],
  );
  assert.equal(code, 0, `${stderr}${stdout}`);
  const leaf = new X509Certificate(readFileSync(join(folder, "tls.crt")));
  const response = await fetch(`${url}/v1/connect/ca/roots`);
  const { Roots } = (await response.json()) as { Roots: readonly { RootCert: string }[] };
  assert.equal(Roots.length, 1);
  const root = new X509Certificate(Roots[0]?.RootCert ?? "");
  assert.ok(leaf.verify(root.publicKey));
  assert.match(leaf.subjectAltName ?? "", /^URI:spiffe:\/\/[^/]+\/ns\/default\/dc\/dc1\/svc\/web$/);
}
