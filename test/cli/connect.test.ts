/**
 * `meshca connect ca` and its short forms against a real server: texts of Consul, JSON, a terminal.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const TOKEN = "2b9f1c6e-7d4a-4a51-9a0e-3f6d8c1b2a90";
/** Far above what a command takes on a machine that is busy. */
const OPTIONS = { timeout: 120_000 };

describe("meshca connect ca", () => {
  let server: ServerProcess;
  let folder: string;
  let environment: Readonly<Record<string, string>>;
  const file = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-cli-"));
    server = await startServer({
      MESHCA_STORE: "memory:",
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
    });
    environment = { CONSUL_HTTP_ADDR: server.url, CONSUL_HTTP_TOKEN: TOKEN };
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it("get-config prints Consul's text, on a terminal and with --json too", OPTIONS, async () => {
    const { code, stdout, stderr } = await meshca(["connect", "ca", "get-config"], environment);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(
      stdout,
      /^\{\n\t"Provider": "consul",\n\t"Config": \{\n\t\t"IntermediateCertTTL": "8760h",\n(?:\t\t.*\n)*\t\},\n\t"State": null,\n\t"ForceWithoutCrossSigning": false,\n\t"CreateIndex": \d+,\n\t"ModifyIndex": \d+\n\}\n$/,
    );
    const json = await meshca(["connect", "ca", "get-config", "--json"], environment);
    assert.equal(json.stdout, stdout);
    const { screen } = await meshcaOnTerminal(["connect", "ca", "get-config"], environment);
    assert.equal(screen, stdout);
  });

  it("set-config reads a file or the standard input", OPTIONS, async () => {
    const { stdout: config } = await meshca(["connect", "ca", "get-config"], environment);
    const changed = config.replace('"72h"', '"48h"');
    const path = file("config.json", changed);
    const set = await meshca(["connect", "ca", "set-config", "-config-file", path], environment);
    assert.deepEqual(set, { code: 0, stdout: "Configuration updated!\n", stderr: "" });
    const now = await meshca(["connect", "ca", "get-config"], environment);
    assert.match(now.stdout, /"LeafCertTTL": "48h"/);
    // The ModifyIndex in the file is the one before.
    const again = await meshca(
      ["connect", "ca", "set-config", "-config-file=-"],
      environment,
      changed.replace("48h", "24h"),
    );
    assert.equal(again.code, 75);
    assert.match(
      again.stderr,
      /^Error setting CA configuration: Unexpected response code: 409 \(.*index.*\)\n$/i,
    );
  });

  for (const [what, args, code, text] of [
    ["no file", [], 64, /^The -config-file flag is required\n$/],
    [
      "a file that is missing",
      ["-config-file", "none.json"],
      66,
      /^Error reading config file: open none\.json: no such file or directory\n$/,
    ],
    [
      "a folder",
      ["-config-file", "/tmp"],
      66,
      /^Error reading config file: read \/tmp: is a directory\n$/,
    ],
  ] as const)
    it(`set-config with ${what} has Consul's text`, OPTIONS, async () => {
      const ran = await meshca(["connect", "ca", "set-config", ...args], environment);
      assert.deepEqual([ran.code, ran.stdout], [code, ""]);
      assert.match(ran.stderr, text);
    });

  for (const [text, reason] of [
    ["", "unexpected end of JSON input"],
    ['{"Provider": "consul"', "unexpected end of JSON input"],
    ['{"Provider": "consul"}x', "invalid character 'x' after top-level value"],
    ["nope", "invalid character 'o' in literal null (expecting 'u')"],
    [
      '{"Provider": 3}',
      "json: cannot unmarshal number into Go struct field CAConfig.Provider of type string",
    ],
    ["[]", "json: cannot unmarshal array into Go value of type api.CAConfig"],
  ] as const)
    it(`set-config of ${text || "nothing"} is refused in Go's words`, OPTIONS, async () => {
      const path = file("bad.json", text);
      const ran = await meshca(["connect", "ca", "set-config", "-config-file", path], environment);
      assert.deepEqual(ran, {
        code: 65,
        stdout: "",
        stderr: `Error parsing config file: ${reason}\n`,
      });
    });

  it("roots are a table, narrow ones blocks, JSON and PEM", OPTIONS, async () => {
    const table = await meshcaOnTerminal(["roots"], environment, { columns: 200 });
    assert.equal(table.code, 0);
    assert.match(
      plain(table.screen),
      /^Trust domain \S+\.consul\n\nID +STATE +LIFE +EXPIRES +KEY\n[0-9a-f:]{59} {2}active {2}\d+d \d+h left {2}\d{4}-\d\d-\d\d {2}ec 256\n$/,
    );
    assert.notEqual(plain(table.screen), table.screen);
    const bare = await meshcaOnTerminal(
      ["roots"],
      { ...environment, NO_COLOR: "1" },
      { columns: 200 },
    );
    assert.equal(plain(bare.screen), bare.screen);
    const narrow = await meshcaOnTerminal(["roots"], environment, { columns: 40 });
    assert.match(plain(narrow.screen), /\nID: {6}[0-9a-f:]{59}\nSTATE: {3}active\nLIFE: {4}\d+d/);
    const { stdout } = await meshca(["connect", "ca", "roots", "--json"], environment);
    const listing = JSON.parse(stdout) as { TrustDomain: string; Roots: { ID: string }[] };
    assert.equal(listing.TrustDomain, server.trustDomain);
    const pem = await meshca(["roots", "-pem"], environment);
    assert.equal(new X509Certificate(pem.stdout).fingerprint.toLowerCase(), listing.Roots[0]?.ID);
  });

  it("rotate asks first: no, Ctrl-C and no terminal change nothing", OPTIONS, async () => {
    const active = async () => {
      const { stdout } = await meshca(["roots", "--json"], environment);
      return (JSON.parse(stdout) as { ActiveRootID: string }).ActiveRootID;
    };
    const first = await active();
    const silent = await meshca(["rotate"], environment);
    assert.equal(silent.code, 64);
    assert.match(silent.stderr, /^Cannot ask without a terminal, nothing was changed; give --yes/);
    for (const [keys, code] of [
      ["n\r", 1],
      ["\r", 1],
      ["\u0003", 130],
    ] as const) {
      const no = await meshcaOnTerminal(["rotate"], environment, { type: [["[y/N]", keys]] });
      assert.equal(no.code, code, no.screen);
      assert.match(
        plain(no.screen),
        new RegExp(`Rotate the root ${first} of \\S+ at ${server.url}`),
      );
    }
    assert.equal(await active(), first);
    const yes = await meshcaOnTerminal(["rotate"], environment, { type: [["[y/N]", "y\r"]] });
    assert.equal(yes.code, 0, yes.screen);
    const second = await active();
    assert.notEqual(second, first);
    assert.match(yes.screen, new RegExp(`The active root is ${second}`));
    const json = await meshca(["connect", "ca", "rotate", "--yes", "--json"], environment);
    assert.equal(json.code, 0, json.stderr);
    const rotation = JSON.parse(json.stdout) as { activeRootId: string };
    assert.equal(rotation.activeRootId, await active());
    const stale = await meshca(["rotate", "--yes", "-modify-index", "1"], environment);
    assert.equal(stale.code, 75, stale.stderr);
  });

  it(
    "renew refuses a key that other users may read, and sign leaves no file half-way",
    OPTIONS,
    async () => {
      const path = (name: string) => join(folder, name);
      const sign = ["sign", "--service", "api", "--key-out", path("api-key.pem")];
      const nowhere = await meshca([...sign, "--out", path("none/api.pem")], environment);
      assert.equal(nowhere.code, 73);
      assert.match(nowhere.stderr, /none\/api\.pem" cannot be written: /);
      assert.ok(!existsSync(path("api-key.pem")));
      assert.equal((await meshca([...sign, "--out", path("api.pem")], environment)).code, 0);
      chmodSync(path("api-key.pem"), 0o640);
      const renewal = ["renew", "-cert", path("api.pem"), "-key", path("api-key.pem")];
      const open = await meshca([...renewal, "-key-out", path("api-2.pem")], environment);
      assert.equal(open.code, 77);
      assert.match(open.stderr, /can be read by other users; run chmod 600 \S+api-key\.pem\n$/);
    },
  );

  it("sign and renew write a leaf and its key, and overwrite nothing", OPTIONS, async () => {
    const path = (name: string) => join(folder, name);
    const args = ["-service", "web", "-key-out", path("web-key.pem"), "-out", path("web.pem")];
    const signed = await meshca(["sign", ...args, "-dns-name", "web"], environment);
    assert.equal(signed.code, 0, signed.stderr);
    assert.match(signed.stdout, /web\.pem: spiffe:\/\/\S+\/svc\/web, \d+[dh].* left, renew after /);
    assert.equal(statSync(path("web-key.pem")).mode & 0o777, 0o600);
    const before = readFileSync(path("web.pem"), "utf8");
    const again = await meshca(["sign", ...args], environment);
    assert.equal(again.code, 73);
    assert.match(again.stderr, /web\.pem" exists and is not overwritten/);
    assert.equal(readFileSync(path("web.pem"), "utf8"), before);
    // Without a token: the key of the leaf is the proof.
    const renewal = ["-cert", path("web.pem"), "-key", path("web-key.pem")];
    const renewed = await meshca(["renew", ...renewal, "-key-out", path("new-key.pem")], {
      CONSUL_HTTP_ADDR: server.url,
    });
    assert.equal(renewed.code, 0, renewed.stderr);
    const leaf = new X509Certificate(renewed.stdout);
    assert.match(leaf.subjectAltName ?? "", /DNS:web, URI:spiffe:\/\/\S+\/svc\/web$/);
    assert.ok(leaf.checkPrivateKey !== undefined);
  });

  it(
    "sign takes a request from the standard input, and names what a token lacks",
    OPTIONS,
    async () => {
      const junk = await meshca(["sign", "-"], environment, "junk");
      assert.equal(junk.code, 65, junk.stderr);
      const anonymous = await meshca(["connect", "ca", "get-config"], {
        CONSUL_HTTP_ADDR: server.url,
      });
      assert.equal(anonymous.code, 77);
      assert.match(
        anonymous.stderr,
        /^Error querying CA configuration: Unexpected response code: 403 \(Permission denied: anonymous token lacks permission 'operator:read'/,
      );
      const rotate = await meshca(["rotate", "--yes"], { CONSUL_HTTP_ADDR: server.url });
      assert.equal(rotate.code, 77);
      assert.match(
        rotate.stderr,
        /lacks permission 'operator:write'.*; no token was sent: give one by --token-file/,
      );
      const wrong = await meshca(["rotate", "--yes", "-token", "wrong-token"], environment);
      assert.equal(wrong.code, 77);
      assert.match(wrong.stderr, /ACL not found; the server does not know the token/);
      assert.doesNotMatch(wrong.stderr, /wrong-token/);
    },
  );

  for (const name of ["node", "deno"] as const)
    it(`runs on ${name}`, OPTIONS, async () => {
      const command = COMMANDS[name](folder);
      const ran = await meshca(["connect", "ca", "get-config"], environment, "", command);
      assert.deepEqual([ran.code, ran.stderr], [0, ""]);
    });
});
