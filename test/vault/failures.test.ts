/**
 * What happens over HTTP when Vault fails: each failure has its own answer, readiness reports since
 * when and why, and the server recovers by itself when Vault is back. If meshca holds the
 * intermediate's key, signing never notices.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { opensslCsr, serviceUri } from "../fakes/ca.ts";
import { createTestApp, type TestApp } from "../fixtures/app.ts";
import { VAULT_KINDS } from "../servers/build.ts";
import { bootstrapIn, createVaultCa, cutting, inventory, toVault, vaultConfig } from "./harness.ts";
import { noOwnVault, useVault, type VaultServer } from "./server.ts";

interface Failure {
  readonly name: string;
  /** Answer of a concurrent signing request. */
  readonly status: number;
  readonly says: RegExp;
  readonly retryAfter: boolean;
  /** Whether readiness reports it, with `probe` or the request that failed. */
  readonly unready: boolean;
  begin(server: VaultServer, paths: Paths): Promise<unknown>;
  end(server: VaultServer, paths: Paths): Promise<unknown>;
}

interface Paths {
  readonly int: string;
}

const FAILURES: readonly Failure[] = [
  {
    name: "sealed",
    status: 503,
    says: /sealed/,
    retryAfter: true,
    unready: true,
    begin: (server) => server.seal(),
    end: (server) => server.unseal(),
  },
  {
    name: "stopped, so that no answer comes",
    status: 503,
    says: /Vault/,
    retryAfter: true,
    unready: true,
    begin: (server) => server.suspend(),
    end: async (server) => server.kill("SIGCONT"),
  },
  {
    name: "over its quota",
    status: 429,
    says: /rate limit/,
    retryAfter: true,
    unready: false,
    async begin(server, { int }) {
      await server.must("POST", "sys/quotas/rate-limit/t", { rate: 0.01, path: int });
      await server.call("GET", `${int}/ca/pem`);
    },
    end: (server) => server.must("DELETE", "sys/quotas/rate-limit/t"),
  },
];

async function sign(app: TestApp, csr: string): Promise<Response> {
  return app.fetch("/v1/connect/ca/sign", { method: "PUT", body: csr });
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await holds()))
    if (performance.now() > deadline) throw new Error("It never became true");
}

for (const kind of VAULT_KINDS)
  describe(`failures of ${kind}`, { skip: noOwnVault }, () => {
    const server = useVault({ kind });

    const start = async (more: Readonly<Record<string, unknown>> = {}) => {
      const config = vaultConfig(server, more);
      const calls = cutting();
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config), connect: calls.connect });
      const csr = opensslCsr(`URI:${serviceUri(ca.manager, "web")}`).csr;
      return {
        ca,
        calls,
        csr,
        config,
        app: await createTestApp({}, ca),
        int: String(config.IntermediatePKIPath),
      };
    };

    for (const failure of FAILURES)
      it(`${failure.name}: ${failure.status}, and recovers by itself`, {
        timeout: 90_000,
      }, async () => {
        const { ca, calls, app, csr, int } = await start();
        const local = await start({ LeafSigning: "local" });
        assert.equal((await sign(app, csr)).status, 200);
        await failure.begin(server, { int });
        try {
          const answer = await sign(app, csr);
          const text = await answer.text();
          assert.equal(answer.status, failure.status, text);
          assert.match(text, failure.says);
          assert.equal(answer.headers.has("Retry-After"), failure.retryAfter);
          const ready = await app.fetch("/readyz");
          assert.equal(ready.status, failure.unready ? 503 : 200);
          if (failure.unready) assert.match(await ready.text(), /since \d{4}-/);
          // Others do not wait for themselves: Vault is not called for them.
          calls.arm(0, "refuse");
          if (failure.unready) {
            assert.equal((await sign(app, csr)).status, 503);
            assert.ok(!calls.calls.includes("signLeaf"), calls.calls.join());
          }

          assert.equal((await sign(local.app, local.csr)).status, 200);
          await local.ca.manager.probe();
          assert.equal((await local.app.fetch("/readyz")).status, 200);
          assert.equal((await sign(local.app, local.csr)).status, 200);
        } finally {
          await failure.end(server, { int });
        }
        await until(async () => {
          ca.clock.advance(2000);
          await ca.manager.probe();
          return (await app.fetch("/readyz")).status === 200;
        });
        assert.equal((await sign(app, csr)).status, 200);
        assert.equal((await sign(local.app, local.csr)).status, 200);
        await ca.manager.close();
        await local.ca.manager.close();
      });

    it("a deleted role is created again, and the request that found it missing succeeds", async () => {
      const { ca, app, csr, int } = await start();
      await server.must("DELETE", `${int}/roles/leaf-cert`);
      assert.equal((await sign(app, csr)).status, 200);
      await ca.manager.close();
    });

    it("a revoked token: 503, and /readyz names it until another one is configured", async () => {
      const token = await server.tokenWith(
        'path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }',
      );
      const { ca, app, csr, config } = await start({ Token: token });
      await server.must("POST", "auth/token/revoke", { token });
      const answer = await sign(app, csr);
      assert.equal(answer.status, 503, await answer.text());
      assert.match(
        await (await app.fetch("/readyz")).text(),
        /token is unknown, expired or revoked.*since \d{4}-/,
      );
      assert.ok(await ca.manager.configure(toVault({ ...config, Token: server.token })));
      assert.equal((await sign(app, csr)).status, 200);
      assert.equal((await app.fetch("/readyz")).status, 200);
      await ca.manager.close();
    });

    it("bad configurations are refused with 400 and change nothing", async () => {
      const { ca, app, config } = await start();
      const put = (more: Record<string, unknown>, provider = "vault") =>
        app.fetch("/v1/connect/ca/configuration", {
          method: "PUT",
          body: JSON.stringify({ Provider: provider, Config: { ...config, ...more } }),
        });
      await server.must("POST", "sys/mounts/not-pki", { type: kind === "vault" ? "pki" : "kv" });
      const document = ca.backend.document;
      const before = await inventory(server);
      const cases: [Record<string, unknown>, RegExp][] = [
        [{ Token: "s.unknown" }, /token is unknown|Vault/],
        [{ PrivateKeyType: "rsa", PrivateKeyBits: 2048 }, /cannot update the PrivateKeyType field/],
        [
          { RootPKIPath: config.IntermediatePKIPath },
          /IntermediatePKIPath must not be the path of the root's mount/,
        ],
        [{ AuthMethod: { Type: "approle" } }, /but not both/],
        [
          { Address: "http://192.0.2.1:8200" },
          /MESHCA_VAULT_ALLOW|not one that this server may ask/,
        ],
        [{ Tokn: "x" }, /did you mean Token/],
        ...(kind === "openbao"
          ? ([
              [{ Namespace: "nowhere" }, /namespace/i],
              [{ RootPKIPath: "not-pki" }, /not pki/],
            ] as [Record<string, unknown>, RegExp][])
          : ([[{ Namespace: "nowhere" }, /has no namespaces/]] as [
              Record<string, unknown>,
              RegExp,
            ][])),
      ];
      for (const [more, says] of cases) {
        const answer = await put(more);
        const text = await answer.text();
        assert.equal(
          answer.status,
          400,
          `${JSON.stringify(Object.keys(more))}: ${answer.status} ${text}`,
        );
        assert.match(text, says);
        assert.equal(ca.backend.document, document);
      }
      assert.deepEqual(await inventory(server), before);
      // Another cluster's mount is not ours to use.
      const other = await createVaultCa();
      await assert.rejects(
        other.manager.configure(toVault(config)),
        /another (cluster|trust domain)|other cluster/,
      );
      assert.deepEqual(await inventory(server), before);
      await ca.manager.close();
    });
  });
