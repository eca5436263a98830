/**
 * Files and addresses that a Vault configuration names, over HTTP against a real server: what the
 * settings of this machine do not list is not read and not asked, and a stored configuration
 * outlives a setting that refuses it.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { opensslCsr } from "../fakes/ca.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { vaultConfig } from "./harness.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "./server.ts";

const MANAGEMENT = "management-token-of-this-test";

describe("files of a Vault configuration", { skip: noOwnVault }, () => {
  let vault: VaultServer;
  let top: string;
  let listed: string;
  before(
    async () => {
      vault = await startVault({ kind: "openbao" });
      top = realpathSync(mkdtempSync(join(tmpdir(), "meshca-vault-files-")));
      listed = join(top, "listed");
      mkdirSync(listed);
      mkdirSync(join(top, "unlisted"));
      mkdirSync(join(top, "data"), { mode: 0o700 });
      for (const folder of ["listed", "unlisted"])
        writeFileSync(join(top, folder, "token"), vault.token);
      writeFileSync(join(listed, "kek"), `k:${Buffer.alloc(32, 7).toString("base64")}`);
      writeFileSync(join(listed, "management"), MANAGEMENT);
      execFileSync("mkfifo", [join(listed, "fifo")]);
    },
    { timeout: BUILD_MS },
  );
  after(async () => {
    await vault?.stop();
    rmSync(top, { recursive: true, force: true });
  });

  const environment = (more: Readonly<Record<string, string>> = {}) => ({
    MESHCA_DATA_DIR: join(top, "data"),
    MESHCA_ACL: "deny",
    MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE: join(listed, "management"),
    MESHCA_KEK_FILE: join(listed, "kek"),
    MESHCA_AUDIT: join(listed, "audit.log"),
    MESHCA_VAULT_ALLOW: "127.0.0.1",
    MESHCA_SECRET_DIRS: listed,
    ...more,
  });
  const headers = { "X-Consul-Token": MANAGEMENT };
  const configure = async (
    server: ServerProcess,
    Config: Readonly<Record<string, unknown>>,
  ): Promise<[number, string]> => {
    const answer = await fetch(`${server.url}/v1/connect/ca/configuration`, {
      method: "PUT",
      headers,
      body: JSON.stringify({ Provider: "vault", Config }),
    });
    return [answer.status, await answer.text()];
  };
  const sign = async ({ url, trustDomain }: ServerProcess): Promise<number> => {
    const { csr } = opensslCsr(`URI:spiffe://${trustDomain}/ns/default/dc/dc1/svc/web`);
    const answer = await fetch(`${url}/v1/connect/ca/sign`, { method: "PUT", headers, body: csr });
    await answer.text();
    return answer.status;
  };
  const readiness = async ({ url }: ServerProcess): Promise<string> =>
    (await fetch(`${url}/readyz`, { headers })).text();
  const until = async (holds: () => Promise<boolean>): Promise<void> => {
    const deadline = performance.now() + 60_000;
    while (!(await holds()))
      if (performance.now() > deadline) throw new Error("It never became true");
  };
  const withFile = (path: string, more: Readonly<Record<string, unknown>> = {}) => {
    const { Token: _, ...config } = vaultConfig(vault);
    return { ...config, TokenFile: path, ...more };
  };

  it("are answered with 400 and the reason, each field alike, while the server keeps serving", async () => {
    const server = await startServer(environment());
    try {
      const unlisted = join(top, "unlisted", "token");
      const approle = (params: Readonly<Record<string, unknown>>) => ({
        TokenFile: undefined,
        AuthMethod: { Type: "approle", Params: params },
      });
      const jwt = (Type: string, params: Readonly<Record<string, unknown>>) => ({
        TokenFile: undefined,
        AuthMethod: { Type, Params: { role: "r", ...params } },
      });
      const token = { TokenFile: undefined, Token: vault.token };
      const hint = new RegExp(`add "${join(top, "unlisted")}" to MESHCA_SECRET_DIRS`);
      const cases: readonly (readonly [more: Readonly<Record<string, unknown>>, says: RegExp])[] = [
        [
          { TokenFile: join(listed, "kek") },
          /TokenFile: ".*" is the file that MESHCA_KEK_FILE names/,
        ],
        [
          { TokenFile: join(listed, "management") },
          /is the file that MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE names/,
        ],
        [{ TokenFile: join(listed, "audit.log") }, /is the file that MESHCA_AUDIT names/],
        [{ TokenFile: "/proc/self/environ" }, /is below \/proc, which is never read/],
        [
          { TokenFile: join(top, "data", "meshca.db") },
          /is below the data folder, which is never read/,
        ],
        [{ TokenFile: join(listed, "fifo") }, /is not a regular file/],
        [{ TokenFile: unlisted }, hint],
        [{ ...token, CAFile: unlisted }, hint],
        [{ ...token, CAPath: join(top, "unlisted") }, /CAPath: .*MESHCA_SECRET_DIRS/],
        [{ ...token, CertFile: unlisted, KeyFile: join(listed, "kek") }, hint],
        [
          { ...token, CertFile: join(listed, "token"), KeyFile: join(listed, "kek") },
          /KeyFile: .* is the file that MESHCA_KEK_FILE names/,
        ],
        [approle({ role_id_file_path: unlisted, secret_id: "s" }), hint],
        [approle({ role_id: "r", secret_id_file_path: unlisted }), hint],
        [jwt("jwt", { path: unlisted }), hint],
        [jwt("kubernetes", { token_path: unlisted }), hint],
        [
          {
            TokenFile: undefined,
            AuthMethod: {
              Type: "userpass",
              Params: { username: "u", password_file_path: unlisted },
            },
          },
          hint,
        ],
        [
          {
            TokenFile: undefined,
            AuthMethod: { Type: "ldap", Params: { username: "u", password_file_path: unlisted } },
          },
          hint,
        ],
      ];
      for (const [more, says] of cases) {
        const [status, text] = await configure(server, withFile("", more));
        assert.match(text, says, JSON.stringify(more));
        assert.match(text, /^error configuring provider: Vault: /);
        assert.equal(status, 400, text);
      }
      assert.equal(await sign(server), 200);
      assert.deepEqual(await configure(server, withFile(join(listed, "token"))), [200, ""]);
      assert.equal(await sign(server), 200);
    } finally {
      await server.stop();
    }
  });

  it("of a stored configuration that are not listed any more are named by readiness, and leaves are signed here", async () => {
    const first = await startServer(
      environment({ MESHCA_SECRET_DIRS: `${listed}, ${join(top, "unlisted")}` }),
    );
    try {
      assert.deepEqual(
        await configure(first, withFile(join(top, "unlisted", "token"), { LeafSigning: "local" })),
        [200, ""],
      );
    } finally {
      await first.stop();
    }
    const second = await startServer(environment());
    try {
      assert.equal(await sign(second), 200);
      await until(async () =>
        (await readiness(second)).includes(`add "${join(top, "unlisted")}" to MESHCA_SECRET_DIRS`),
      );
      assert.match(await readiness(second), /^ok\n/);
      assert.equal(await sign(second), 200);
    } finally {
      await second.stop();
    }
  });

  it("are not read, and loopback is not asked, unless it is listed, once access control is on", async () => {
    const server = await startServer(environment({ MESHCA_VAULT_ALLOW: "vault.example.com" }));
    try {
      const [status, text] = await configure(server, withFile(join(listed, "token")));
      assert.equal(status, 400, text);
      assert.match(
        text,
        /^error configuring provider: Vault: address "http:\/\/127\.0\.0\.1:\d+" is not allowed by the settings of this server: list its host or its range of addresses in MESHCA_VAULT_ALLOW$/,
      );
    } finally {
      await server.stop();
    }
  });
});
