/**
 * Consul's own command line and ours, side by side on the same server: what each prints.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { meshca } from "../cli/run.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { clientCommand, noClient, type ProgramCommand } from "./clients.ts";
import { runConsul } from "./consul-command.ts";

const skip = noClient("consul-cli");
const TOKEN = "5d6f0a52-2c53-4c1e-9c6d-0b7c8a4f1e22";
const OPTIONS = { timeout: 300_000 };

describe("consul connect ca and meshca connect ca", { skip }, () => {
  let consul: ProgramCommand;
  let server: ServerProcess;
  let folder: string;
  let environment: Readonly<Record<string, string>>;
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  before(async () => {
    consul = await clientCommand("consul-cli");
    folder = mkdtempSync(join(tmpdir(), "meshca-side-"));
    server = await startServer({
      MESHCA_STORE: "memory:",
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
    });
    environment = { CONSUL_HTTP_ADDR: server.url, CONSUL_HTTP_TOKEN: TOKEN };
  });
  after(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** The request id of a refusal differs, and the exit code: Consul's is 1 for every error. */
  async function compare(
    args: readonly string[],
    code: number,
    more: Readonly<Record<string, string>> = environment,
  ): Promise<string> {
    const theirs = await runConsul(consul, ["connect", "ca", ...args], more);
    const ours = await meshca(["connect", "ca", ...args], more);
    assert.deepEqual([ours.stdout, ours.stderr], [theirs.stdout, theirs.stderr]);
    assert.deepEqual([theirs.code, ours.code], [code === 0 ? 0 : 1, code]);
    return theirs.stdout;
  }

  it("-datacenter reads and changes another datacenter with the same output", OPTIONS, async () => {
    const second = await startServer({
      ...{ MESHCA_STORE: "memory:", MESHCA_DATACENTER: "dc2", MESHCA_ACL: "deny" },
      MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
    });
    const first = await startServer({
      MESHCA_STORE: "memory:",
      MESHCA_DATACENTERS: JSON.stringify({ dc2: { servers: [second.url] } }),
    });
    try {
      const through = { CONSUL_HTTP_ADDR: first.url, CONSUL_HTTP_TOKEN: TOKEN };
      const get = ["get-config", "-datacenter", "dc2"];
      const before = await compare(get, 0, through);
      const config = { Provider: "consul", Config: { LeafCertTTL: "7h" } };
      const set = ["set-config", "-config-file", file("dc2.json", JSON.stringify(config))];
      await compare([...set, "-datacenter", "dc2"], 0, through);
      const after = await compare(get, 0, through);
      assert.notEqual(after, before);
      assert.match(after, /"LeafCertTTL": "7h"/);
      assert.match(await compare(["get-config"], 0, through), /"LeafCertTTL": "72h"/);
      await compare(get, 77, { CONSUL_HTTP_ADDR: first.url });
    } finally {
      await first.stop();
      await second.stop();
    }
  });

  it("get-config prints the same", OPTIONS, async () => {
    assert.match(await compare(["get-config"], 0), /^\{\n\t"Provider": "consul",/);
    await compare(["get-config", "-stale"], 0);
    await compare(["get-config", "-datacenter", "dc1"], 0);
  });

  it(
    "get-config of a configuration with every kind of value prints the same",
    OPTIONS,
    async () => {
      const config = {
        Provider: "consul",
        Config: {
          ...{ LeafCertTTL: "72h", IntermediateCertTTL: "8760h", RootCertTTL: "87600h" },
          ...{
            CSRMaxPerSecond: 50.5,
            CSRMaxConcurrent: 0,
            PrivateKeyType: "ec",
            PrivateKeyBits: 256,
          },
        },
      };
      await compare(["set-config", "-config-file", file("a.json", JSON.stringify(config))], 0);
      await compare(["get-config"], 0);
    },
  );

  it("set-config prints the same for what is missing, broken or refused", OPTIONS, async () => {
    await compare(["set-config"], 64);
    await compare(["set-config", "-config-file", join(folder, "none.json")], 66);
    await compare(["set-config", "-config-file", folder], 66);
    for (const text of [
      "",
      "{",
      '{"Provider"',
      '{"Provider": "consul",}',
      '{"Provider": "consul"} x',
      "[]",
      "3",
      '"text"',
      '{"Provider": 3}',
      '{"Config": []}',
      '{"ModifyIndex": -1}',
      '{"ForceWithoutCrossSigning": "yes"}',
    ])
      await compare(["set-config", "-config-file", file("bad.json", text)], 65);
    for (const config of [
      { Provider: "consul", Config: { LeafCertTTL: "1s" } },
      { Provider: "nonesuch", Config: {} },
      { provider: "consul", config: { LeafCertTTL: true }, Unknown: 1 },
    ])
      await compare(["set-config", "-config-file", file("c.json", JSON.stringify(config))], 65);
  });

  it("set-config takes the same files", OPTIONS, async () => {
    const text = await compare(["get-config"], 0);
    await compare(["set-config", "-config-file", file("same.json", text)], 0);
    await compare(
      [
        "set-config",
        `-config-file=${file("same.json", text)}`,
        "-force-without-cross-signing=false",
      ],
      0,
    );
  });

  it("a token that lacks the right is refused with the same text", OPTIONS, async () => {
    await compare(["get-config"], 77, { CONSUL_HTTP_ADDR: server.url });
    await compare(["get-config"], 77, { ...environment, CONSUL_HTTP_TOKEN: "nonesuch" });
    await compare(
      ["set-config", "-config-file", file("d.json", '{"Provider":"consul","Config":{}}')],
      77,
      { CONSUL_HTTP_ADDR: server.url },
    );
  });
});
