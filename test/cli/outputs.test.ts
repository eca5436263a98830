/**
 * What every command prints on a terminal and in JSON, against one server with access control. A
 * command that has no row here fails the last test.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type Entry, isGroup } from "../../src/cli/command.ts";
import { PROGRAM } from "../../src/cli/program.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const TOKEN = "5d2c9f1e-6b3a-4e17-8c40-91f7a3e0d652";
const OPTIONS = { timeout: 120_000 };
const ROOT_ID = "(?:[0-9a-f]{2}:){19}[0-9a-f]{2}";

interface Row {
  /** The words of the command, then its arguments; `{folder}` and `{url}` are replaced. */
  readonly args: string;
  /** What the terminal shows. */
  readonly screen: RegExp;
  /** A member of the JSON that is printed, or null if the command prints none. */
  readonly json: string | null;
  /** Other arguments of the run with `--json`, where a file must not exist. */
  readonly jsonArgs?: string;
}

const ROWS: readonly Row[] = [
  { args: "healthcheck", screen: /^$/, json: null },
  { args: "status", screen: /^state +ok$/m, json: "roots" },
  { args: "roots", screen: /ID[\s\S]*EXPIRES/i, json: "ActiveRootID" },
  { args: "connect ca roots", screen: /ID[\s\S]*EXPIRES/i, json: "ActiveRootID" },
  { args: "rotate --yes", screen: /^The active root is /m, json: "activeRootId" },
  { args: "connect ca rotate --yes", screen: /^The active root is /m, json: "activeRootId" },
  {
    args: "sign --service web --key-out {folder}/web-key.pem --out {folder}/web.pem",
    screen: /web\.pem: spiffe:\/\/\S+\/svc\/web, [\s\S]*left, renew after/,
    json: "CertPEM",
    jsonArgs: "sign --service web --key-out {folder}/web2-key.pem",
  },
  {
    args: "connect ca sign {folder}/api.csr --service api",
    screen: /-----BEGIN CERTIFICATE-----[\s\S]*svc\/api/,
    json: "SerialNumber",
  },
  {
    args: "renew --cert {folder}/web.pem --key {folder}/web-key.pem --key-out {folder}/r1.pem",
    screen: /-----BEGIN CERTIFICATE-----[\s\S]*svc\/web/,
    json: "ServiceURI",
    jsonArgs: "renew --cert {folder}/web.pem --key {folder}/web-key.pem --key-out {folder}/r2.pem",
  },
  {
    args: "connect ca renew --cert {folder}/web.pem --key {folder}/web-key.pem --key-out {folder}/r3.pem --out {folder}/r3-cert.pem",
    screen: /r3-cert\.pem: spiffe:\/\//,
    json: "ServiceURI",
    jsonArgs:
      "connect ca renew --cert {folder}/web.pem --key {folder}/web-key.pem --key-out {folder}/r4.pem",
  },
  { args: "connect ca get-config", screen: /"Provider": "consul"/, json: "Provider" },
  {
    args: "connect ca set-config -config-file {folder}/config.json",
    screen: /^Configuration updated!$/m,
    json: "updated",
  },
  {
    args: "deny add --serial 01:02:03 --yes",
    screen: /^Denied; the entry is /m,
    json: "ID",
    jsonArgs: "deny add --serial 04:05:06 --yes",
  },
  { args: "deny list", screen: /01:02:03/, json: "SerialNumber" },
  { args: "deny remove {denied} --yes", screen: /^Removed /m, json: "Removed" },
  { args: "kek status", screen: /^current +/m, json: "InUse" },
  { args: "kek rewrap", screen: /^in use +/m, json: "InUse" },
  {
    args: "backup save {folder}/a.backup",
    screen: /^Saved \S+a\.backup$/m,
    json: "File",
    jsonArgs: "backup save {folder}/b.backup",
  },
  {
    args: "backup restore {folder}/a.backup --yes",
    screen: new RegExp(`^Restored; the active root is ${ROOT_ID}$`, "m"),
    json: "ActiveRootID",
  },
  { args: "conflict show", screen: /^There is no conflict$/m, json: "Conflict" },
  {
    args: "tls ca create -domain one",
    screen: /^==> Saved one-agent-ca\.pem$/m,
    json: "CertificateFile",
    jsonArgs: "tls ca create -domain two",
  },
  {
    args: "tls cert create -server -domain one",
    screen: /^==> Saved dc1-server-one-0\.pem$/m,
    json: "KeyFile",
  },
  { args: "inspect {folder}/web.pem", screen: /svc\/web/, json: "kind" },
  { args: "verify {folder}/web.pem --roots {url}", screen: /svc\/web/, json: "verifies" },
  { args: "completion bash", screen: /complete /, json: null },
];

/**
 * Their own files make the states that they need: a store that lost writes (conflict.test.ts), a CA
 * that has expired (recover.test.ts), deployments with each fault (doctor.test.ts), access control
 * with its records (acl.test.ts), several datacenters (datacenters/promote-processes.test.ts), and a
 * retired root (rollback.test.ts, drop-root.test.ts).
 */
const ELSEWHERE: readonly string[] = [
  ...["conflict resolve", "recover", "doctor", "datacenter promote"],
  ...["acl", "login", "logout", "rollback", "connect ca rollback"],
  ...["drop-root", "connect ca drop-root"],
];

describe("every command of meshca", () => {
  let server: ServerProcess;
  let folder: string;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-outputs-"));
    server = await startServer({ MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN });
    environment = {
      MESHCA_HTTP_ADDR: server.url,
      MESHCA_HTTP_TOKEN: TOKEN,
      MESHCA_LISTEN: new URL(server.url).host,
    };
    writeFileSync(
      join(folder, "config.json"),
      '{"Provider": "consul", "Config": {"LeafCertTTL": "71h"}}',
    );
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    const out = ["-keyout", join(folder, "api.key"), "-out", join(folder, "api.csr")];
    execFileSync("openssl", ["req", "-new", ...key, "-subj", "/", ...out], { stdio: "ignore" });
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** The ID of the first entry of the denylist. */
  async function denied(): Promise<string> {
    const { stdout } = await meshca(["deny", "list", "--json"], environment);
    return (JSON.parse(stdout) as readonly { readonly ID: string }[])[0]?.ID ?? "none";
  }

  const argsOf = async (text: string): Promise<readonly string[]> =>
    text
      .replaceAll("{folder}", folder)
      .replaceAll("{url}", server.url)
      .replaceAll("{denied}", text.includes("{denied}") ? await denied() : "")
      .split(" ");

  for (const { args, screen, json, jsonArgs } of ROWS)
    it(
      `prints on a terminal${json === null ? "" : " and in JSON"}: meshca ${args}`,
      OPTIONS,
      async () => {
        const shown = await meshcaOnTerminal(await argsOf(args), environment, { cwd: folder });
        assert.equal(shown.code, 0, shown.screen);
        assert.match(plain(shown.screen), screen);
        if (json === null) return;
        const words = [...(await argsOf(jsonArgs ?? args)), "--json"];
        const { code, stdout, stderr } = await meshca(words, environment, "", undefined, folder);
        assert.deepEqual([code, stderr], [0, ""], stdout);
        const value: unknown = JSON.parse(stdout);
        const one: unknown = Array.isArray(value) ? value[0] : value;
        assert.ok(Object.keys(one as object).includes(json), stdout);
        // Colour and words for people belong to a terminal.
        assert.ok(!stdout.includes("\u001b"), stdout);
      },
    );

  it("has a row in this file", () => {
    const missing = (entry: Entry, path: readonly string[]): readonly string[] => {
      if (isGroup(entry)) return entry.commands.flatMap((one) => missing(one, [...path, one.name]));
      if (entry.hidden === true || entry.serves === true) return [];
      const words = path.join(" ");
      if (ELSEWHERE.some((one) => `${words} `.startsWith(`${one} `))) return [];
      const row = ROWS.find(({ args }) => args === words || args.startsWith(`${words} `));
      if (row === undefined) return [words];
      return (row.json !== null) === (entry.json === true) ? [] : [`${words} --json`];
    };
    assert.deepEqual(missing(PROGRAM, []), []);
  });
});
