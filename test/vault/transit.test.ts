/**
 * Key-encryption keys that Vault Transit wraps: on a real server, which a meshca needs at its start
 * and never after.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { hasWrapped, openWrapped } from "../../src/seal/wrapped.ts";
import { makeDataDir, runServer, startServer } from "../fixtures/process.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "./server.ts";

const POLICY = `
path "transit/encrypt/mesh" { capabilities = ["update"] }
path "transit/decrypt/mesh" { capabilities = ["update"] }
path "transit/rewrap/mesh" { capabilities = ["update"] }`;

describe("openWrapped()", () => {
  const wrapper = {
    wrap: async () => "",
    unwrap: async (text: string) => text.split(":")[2] ?? "",
    rewrap: async () => null,
  };

  it("unwraps wrapped keys and returns the others unchanged", async () => {
    const plain = makeKek();
    const [, key = ""] = plain.split(":");
    assert.equal(
      await openWrapped(`new:vault:v3:${key}\n${plain}`, wrapper),
      `new:${key},${plain}`,
    );
    assert.equal(hasWrapped(plain), false);
  });

  it("refuses a key of another length, and a wrapped one with nothing to open it, without repeating either", async () => {
    await assert.rejects(
      openWrapped("new:vault:v1:QUJD", wrapper),
      (error: Error) =>
        /does not have 32 octets/.test(error.message) && !error.message.includes("QUJD"),
    );
    await assert.rejects(
      openWrapped("new:vault:v1:QUJD", null),
      (error: Error) => /MESHCA_KEK_VAULT/.test(error.message) && !error.message.includes("QUJD"),
    );
  });
});

describe("key-encryption keys wrapped by Transit", { skip: noOwnVault }, () => {
  let vault: VaultServer;
  let dataDir: string;
  before(
    async () => {
      vault = await startVault({ kind: "openbao", durable: true });
      await vault.must("POST", "sys/mounts/transit", { type: "transit" });
      await vault.must("POST", "transit/keys/mesh", {});
    },
    { timeout: BUILD_MS },
  );
  after(() => vault?.stop());
  beforeEach(() => {
    dataDir = makeDataDir();
  });
  afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

  const environment = async (policy = POLICY, more: Readonly<Record<string, unknown>> = {}) => {
    const file = join(dataDir, "transit.json");
    const token = await vault.tokenWith(policy);
    writeFileSync(
      file,
      JSON.stringify({ Address: vault.address, Token: token, TransitKey: "mesh", ...more }),
    );
    return { MESHCA_DATA_DIR: dataDir, MESHCA_KEK_VAULT: file };
  };
  const kek = () => readFileSync(join(dataDir, "kek"), "utf8").trim();
  const roots = async (url: string): Promise<{ ActiveRootID: string }> =>
    (await fetch(`${url}/v1/connect/ca/roots`)).json() as never;

  it("are stored wrapped in the data folder, are unwrapped at the start, and need no Vault after it", async () => {
    const settings = await environment();
    const server = await startServer(settings);
    assert.match(kek(), /^[\w-]+:vault:v1:[A-Za-z0-9+/=]+$/);
    const { ActiveRootID: id } = await roots(server.url);
    await vault.seal();
    try {
      const rotated = await fetch(`${server.url}/v1/connect/ca/rotate`, { method: "PUT" });
      assert.equal(rotated.status, 200, "a new root is sealed while Vault is");
      assert.notEqual((await roots(server.url)).ActiveRootID, id);
      const active = (await roots(server.url)).ActiveRootID;
      await server.stop();
      const ended = await runServer({ ...settings, MESHCA_LISTEN: "127.0.0.1:0" });
      assert.notEqual(ended.code, 0);
      assert.match(ended.stderr, /Vault is sealed/);
      await vault.unseal();
      const again = await startServer(settings);
      assert.equal((await roots(again.url)).ActiveRootID, active);
      await again.stop();
    } finally {
      await vault.unseal();
    }
  });

  it("are rewrapped once the Transit key has a newer version, and stay the same keys", async () => {
    const settings = await environment();
    const first = await startServer(settings);
    const { ActiveRootID: id } = await roots(first.url);
    await first.stop();
    const before = kek();
    await vault.must("POST", "transit/keys/mesh/rotate", {});
    const second = await startServer(settings);
    const version = (text: string) => Number(/:v(\d+):/.exec(text)?.[1]);
    assert.equal(version(kek()), version(before) + 1);
    assert.equal((await roots(second.url)).ActiveRootID, id);
    await second.stop();
    await vault.must("POST", "transit/keys/mesh/config", {
      min_decryption_version: version(kek()),
    });
    const third = await startServer(settings);
    assert.equal((await roots(third.url)).ActiveRootID, id);
    await third.stop();
    await vault.must("POST", "transit/keys/mesh/config", { min_decryption_version: 1 });
  });

  it("may be given wrapped, as a data key that was never shown", async () => {
    const { data } = await vault.must("POST", "transit/datakey/wrapped/mesh", { bits: 256 });
    const settings = {
      ...(await environment()),
      MESHCA_STORE: "memory:",
      MESHCA_KEK: `2026:${data.ciphertext}`,
    };
    const server = await startServer(settings);
    assert.equal((await fetch(`${server.url}/v1/connect/ca/roots`)).status, 200);
    assert.ok(!server.stdout().includes(data.ciphertext));
    await server.stop();
  });

  it("are wrapped from now on if one was stored in plaintext before", async () => {
    const open = await startServer({ MESHCA_DATA_DIR: dataDir });
    const { ActiveRootID: id } = await roots(open.url);
    await open.stop();
    const before = kek();
    const server = await startServer(await environment());
    assert.deepEqual(kek().split("\n").length, 2);
    assert.ok(kek().endsWith(before));
    assert.equal((await roots(server.url)).ActiveRootID, id);
    const rewrapped = await fetch(`${server.url}/v1/connect/ca/rewrap`, { method: "PUT" });
    assert.equal(rewrapped.status, 200);
    await server.stop();
    writeFileSync(join(dataDir, "kek"), `${kek().split("\n")[0]}\n`);
    const alone = await startServer(await environment());
    assert.equal((await roots(alone.url)).ActiveRootID, id);
    await alone.stop();
  });

  const refused: readonly [
    why: string,
    policy: string,
    more: Readonly<Record<string, unknown>>,
    expected: RegExp,
  ][] = [
    [
      "a key that is not there",
      `path "transit/*" { capabilities = ["update"] }`,
      { TransitKey: "other" },
      /^Transit key "other" at "transit" cannot encrypt: permission denied\. Add to the policy of the token:\npath "transit\/encrypt\/other"/,
    ],
    [
      "a token that may not",
      `path "other" { capabilities = ["read"] }`,
      {},
      /path "transit\/encrypt\/mesh" \{\n {2}capabilities = \["update"\]/,
    ],
    [
      "an engine that is not mounted",
      `path "elsewhere/*" { capabilities = ["update"] }`,
      { TransitPath: "elsewhere" },
      /nothing is mounted/,
    ],
    [
      "an address that may not be asked",
      POLICY,
      { Address: "https://169.254.169.254" },
      /MESHCA_VAULT_ALLOW/,
    ],
    ["a configuration with a mistake", POLICY, { TransitKy: "mesh" }, /did you mean TransitKey\?/],
  ];
  for (const [why, policy, more, expected] of refused)
    it(`stop the start and leave nothing behind with ${why}`, async () => {
      const ended = await runServer({
        ...(await environment(policy, more)),
        MESHCA_LISTEN: "127.0.0.1:0",
      });
      assert.notEqual(ended.code, 0);
      assert.match(ended.stderr, expected);
      assert.throws(kek, /ENOENT/);
    });
});
