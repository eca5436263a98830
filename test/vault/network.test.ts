/**
 * What lies between meshca and Vault fails: names, certificates, proxies, redirects, and the
 * server's own end. Each has its own answer over HTTP, readiness reports since when and why, and
 * the server recovers by itself afterwards.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { RequestListener } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { EgressAllowlist } from "../../providers/vault/egress-allowlist.ts";
import { systemClock } from "../../src/entry/platform.ts";
import { readRange } from "../../src/net/ip.ts";
import { opensslCsr, serviceUri, silentLog } from "../fakes/ca.ts";
import type { FakeClock } from "../fakes/clock.ts";
import { createTestApp, type TestApp } from "../fixtures/app.ts";
import { VAULT_KINDS } from "../servers/build.ts";
import { makePki } from "./client/pki.ts";
import {
  bootstrapIn,
  clockNow,
  connectWith,
  createVaultCa,
  inventory,
  vaultConfig,
} from "./harness.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "./server.ts";

const HOST = "vault.test";

type Trouble =
  | "none"
  | "name"
  | "certificate"
  | "html"
  | "to Vault"
  | "elsewhere"
  | "another status";

interface Case {
  readonly trouble: Trouble;
  /** Answer of a concurrent signing request. */
  readonly status: number;
  readonly says: RegExp;
  /** What the log has and readiness shows to operators; signing callers learn no server's name. */
  readonly logged: RegExp;
}

const CASES: readonly Case[] = [
  {
    trouble: "name",
    status: 503,
    says: /^Vault cannot be reached; the server's log has the details$/,
    logged: /host \\?"vault\.test\\?" has no address/,
  },
  {
    trouble: "certificate",
    status: 502,
    says: /^TLS cannot be established with Vault; the server's log has the details$/,
    logged: /TLS cannot be established with https:\/\/vault\.test:\d+/,
  },
  {
    trouble: "html",
    status: 503,
    says: /Vault failed: status 502/,
    logged: /Vault failed: status 502/,
  },
  {
    trouble: "elsewhere",
    status: 502,
    says: /^Vault's address or a file is not allowed; the server's log has the details$/,
    logged: /192\.0\.2\.1:8200.*is not allowed by the settings of this server.*MESHCA_VAULT_ALLOW/,
  },
  {
    trouble: "another status",
    status: 500,
    says: /a redirect of status 302, which is not followed/,
    logged: /a redirect of status 302, which is not followed/,
  },
];

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

const sign = (app: TestApp, csr: string) =>
  app.fetch("/v1/connect/ca/sign", { method: "PUT", body: csr });

for (const kind of VAULT_KINDS)
  describe(`the way to ${kind}`, { skip: noOwnVault }, () => {
    let folder: string;
    let server: VaultServer;
    let front: Server;
    let port: number;
    let trouble: Trouble = "none";

    /** A proxy before Vault, which may do something else. */
    const proxy: RequestListener = async (request, response) => {
      const redirect = (status: number, to: string) =>
        void response.writeHead(status, { Location: `${to}${request.url}` }).end();
      if (trouble === "html")
        return void response
          .writeHead(502, { "Content-Type": "text/html" })
          .end("<html>Bad Gateway</html>");
      if (trouble === "elsewhere") return redirect(307, "https://192.0.2.1:8200");
      if (trouble === "another status") return redirect(302, `https://${HOST}:${port}`);
      if (trouble === "to Vault" && request.headers.host === `${HOST}:${port}`)
        return redirect(307, `https://other.${HOST}:${port}`);
      const chunks: Uint8Array[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const headers = Object.entries(request.headers).filter(([name]) =>
        name.startsWith("x-vault-"),
      ) as [string, string][];
      const body = chunks.length === 0 ? {} : { body: Buffer.concat(chunks) };
      const answer = await fetch(`${server.address}${request.url}`, {
        method: request.method ?? "GET",
        headers,
        ...body,
      });
      response.writeHead(answer.status, {
        "Content-Type": answer.headers.get("Content-Type") ?? "text/plain",
      });
      response.end(new Uint8Array(await answer.arrayBuffer()));
    };

    const connectBy = (clock: FakeClock) =>
      connectWith({
        clock: { now: () => clock.now(), sleep: systemClock.sleep },
        readFile: () =>
          readFileSync(join(folder, trouble === "certificate" ? "b-ca.pem" : "a-ca.pem"), "utf8"),
        resolve: async () => {
          if (trouble === "name") throw new Error("ENOTFOUND");
          // Nobody listens at the first.
          return ["127.0.0.2", "127.0.0.1"];
        },
        allow: new EgressAllowlist({
          hosts: [HOST, `other.${HOST}`],
          ranges: [readRange("127.0.0.0/8") ?? []].flat(),
          loopback: false,
        }),
      });

    const start = async () => {
      const clock = clockNow();
      const config = {
        ...vaultConfig(server),
        Address: `https://${HOST}:${port}`,
        CAFile: "ca.pem",
        TLSServerName: HOST,
      };
      const ca = await createVaultCa({
        bootstrap: bootstrapIn(config),
        clock,
        connect: connectBy(clock),
      });
      const { csr } = opensslCsr(`URI:${serviceUri(ca.manager, "web")}`);
      const logged: string[] = [];
      const log = {
        ...silentLog,
        error: (_message: string, { reason }: Readonly<Record<string, unknown>> = {}) =>
          void logged.push(String(reason)),
      };
      return { ca, csr, clock, logged, app: await createTestApp({ runtime: { log } }, ca) };
    };
    const untilReady = async (app: TestApp, step: () => Promise<void>) => {
      const deadline = performance.now() + 60_000;
      while ((await app.fetch("/readyz")).status !== 200) {
        assert.ok(performance.now() < deadline, "it never became ready");
        await step();
      }
    };

    before(
      async () => {
        folder = mkdtempSync(join(tmpdir(), "meshca-vault-way-"));
        for (const name of ["a", "b"]) makePki(folder, name);
        server = await startVault({ kind });
        const read = (name: string) => readFileSync(join(folder, name));
        front = createServer({ cert: read("a-server.pem"), key: read("a-server.key") }, proxy);
        port = await listening(front);
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      front.close();
      front.closeAllConnections();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    for (const { trouble: kindOf, status, says, logged: wanted } of CASES)
      it(`trouble with ${kindOf}: ${status}, and recovers by itself`, {
        timeout: 60_000,
      }, async () => {
        const { ca, csr, clock, logged, app } = await start();
        assert.equal((await sign(app, csr)).status, 200);
        try {
          trouble = kindOf;
          // Names and files are read again.
          clock.advance(11_000);
          const answer = await sign(app, csr);
          const text = await answer.text();
          assert.equal(answer.status, status, text);
          assert.match(text, says);
          assert.doesNotMatch(text, /<html>|vault\.test|192\.0\.2\.1|127\.0\.0\.1|:\d{4}/);
          assert.match(logged.join("\n"), wanted);
          assert.equal(answer.headers.has("Retry-After"), status === 503);
          const ready = await app.fetch("/readyz");
          assert.equal(ready.status, 503);
          const details = await ready.text();
          assert.match(details, /since \d{4}-/);
          assert.match(details, wanted);
        } finally {
          trouble = "none";
        }
        await untilReady(app, async () => {
          clock.advance(6000);
          await ca.manager.probe();
          // A failure that only a call shows is reported by the next call.
          await sign(app, csr);
        });
        assert.equal((await sign(app, csr)).status, 200);
        await ca.manager.close();
      });

    it("a redirect of a standby to an active node on the egress allowlist is followed", async () => {
      const { ca, csr, app } = await start();
      trouble = "to Vault";
      try {
        assert.equal((await sign(app, csr)).status, 200);
        assert.equal((await app.fetch("/readyz")).status, 200);
      } finally {
        trouble = "none";
      }
      await ca.manager.close();
    });

    it("a server that is killed and started again is found again, with what it has on disk", {
      timeout: 90_000,
    }, async () => {
      const durable = await startVault({ kind, durable: true });
      try {
        const ca = await createVaultCa({ bootstrap: bootstrapIn(vaultConfig(durable)) });
        const { csr } = opensslCsr(`URI:${serviceUri(ca.manager, "web")}`);
        const app = await createTestApp({}, ca);
        assert.equal((await sign(app, csr)).status, 200);
        const [before, root] = [await inventory(durable), ca.manager.require().active.id];
        durable.kill("SIGKILL");
        const answer = await sign(app, csr);
        assert.equal(answer.status, 503);
        assert.equal(
          await answer.text(),
          "Vault cannot be reached; the server's log has the details",
        );
        assert.ok(answer.headers.has("Retry-After"));
        const details = await (await app.fetch("/readyz")).text();
        assert.match(details, /cannot be reached at http:\/\/127\.0\.0\.1:\d+ .*since \d{4}-/);
        const config = { ...vaultConfig(durable), LeafCertTTL: "73h" };
        const change = await app.fetch("/v1/connect/ca/configuration", {
          method: "PUT",
          body: JSON.stringify({ Provider: "vault", Config: config }),
        });
        assert.equal(change.status, 503);
        assert.match(await change.text(), /cannot be reached at http:\/\/127\.0\.0\.1:\d+ /);
        await durable.restart();
        await untilReady(app, async () => {
          ca.clock.advance(2000);
          await ca.manager.probe();
        });
        assert.equal((await sign(app, csr)).status, 200);
        await ca.manager.tick();
        assert.equal(ca.manager.require().active.id, root);
        assert.deepEqual(await inventory(durable), before);
        await ca.manager.close();
      } finally {
        await durable.stop();
      }
    });
  });
