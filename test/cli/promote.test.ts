/**
 * Every text of `meshca datacenter promote` that refuses, with its exit code, against datacenters as
 * real processes. What succeeds is in test/datacenters/promote-processes.test.ts.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { call, type Datacenters, MANAGEMENT, startDatacenters } from "../datacenters/servers.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { until } from "../redis/server.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const OPTIONS = { timeout: 120_000 };
/** Of dc1, dc2 and dc3. */
const [KEK_1, KEK_2, KEK_3] = [makeKek(), makeKek(), makeKek()];
/** At which server, with which token, which flags: the exit code, and what is printed. */
type Row = readonly [
  what: string,
  at: "primary" | "dc2" | "dc3" | "alone",
  flags: string,
  code: number,
  text: RegExp,
];

/** `{folder}` is that of the backups. */
const ROWS: readonly Row[] = [
  [
    ...(["a file that is not there", "dc2", "--backup {folder}/none --yes", 66] as const),
    /^The backup "\S+\/none" cannot be read: there is no such file$/,
  ],
  [
    ...(["a folder", "dc2", "--backup {folder} --yes", 66] as const),
    /^The backup "\S+" cannot be read: it is a folder$/,
  ],
  [
    ...(["a file that is not a backup", "dc2", "--backup {folder}/text --yes", 65] as const),
    /^Cannot read backup: .* its document is not JSON$/,
  ],
  [
    ...(["an empty file", "dc2", "--backup {folder}/empty --yes", 65] as const),
    /^Cannot read backup: .* its document is not JSON$/,
  ],
  [
    ...(["JSON of something else", "dc2", "--backup {folder}/json --yes", 65] as const),
    /^Cannot read backup: .* its document does not have the fields of a state document$/,
  ],
  [
    ...(["a backup whose key is unknown", "dc3", "--backup {folder}/primary --yes", 65] as const),
    /^Cannot read backup: .* key-encryption key "\w+" is not configured; add the key that encrypted the backup to MESHCA_KEK of every server, after the present one$/,
  ],
  [
    ...(["a backup of another mesh", "dc2", "--backup {folder}/foreign --yes", 75] as const),
    /^Cannot promote: the backup is of cluster [0-9a-f-]{36}, this is [0-9a-f-]{36}; give a backup of the primary datacenter of this mesh$/,
  ],
  [
    ...(["a backup of a secondary", "dc2", "--backup {folder}/dc2 --yes", 75] as const),
    /^Cannot promote: the backup is of the secondary datacenter dc2, which has no root; give a backup of the primary datacenter$/,
  ],
  [
    ...(["two roots", "dc2", "--backup {folder}/primary --new-root --yes", 64] as const),
    /^Give --backup or --new-root, not both$/,
  ],
  [
    ...(["--soak without --new-root", "dc2", "--soak 1m --yes", 64] as const),
    /^--soak needs --new-root$/,
  ],
  ...["1x", "-1m", "169h", "10"].map(
    (soak): Row => [
      ...(["a malformed --soak", "dc2", `--new-root --soak ${soak} --yes`, 65] as const),
      /^Cannot promote: Soak must be a duration from 0 to 168h, such as 10m$/,
    ],
  ),
  [
    ...(["another argument", "dc2", "dc1.backup --yes", 64] as const),
    /^"dc1\.backup" does not belong to a flag of meshca datacenter promote\n/,
  ],
  [
    ...(["a pipe without --yes", "dc2", "--backup {folder}/primary", 64] as const),
    /^Cannot ask without a terminal, nothing was changed; give --yes to do it without a question$/,
  ],
  [
    ...(["no root in a secondary", "dc2", "--yes", 75] as const),
    /^Cannot promote: this datacenter follows dc1 and has no root of its own; give a backup of dc1, or have a new root made$/,
  ],
  [
    ...(["another index", "dc2", "--backup {folder}/primary --modify-index 99 --yes", 75] as const),
    /^ModifyIndex did not match existing$/,
  ],
  [
    ...(["a new root in a primary", "primary", "--new-root --yes", 75] as const),
    /^Cannot promote with a new root: this datacenter is a primary one and has its own; promote it with that one, and rotate the root then$/,
  ],
  [
    ...(["the only datacenter", "alone", "--yes", 75] as const),
    /^Cannot promote: this deployment has one datacenter, which is the primary one$/,
  ],
];

describe("meshca datacenter promote refuses", () => {
  let folder: string;
  let all: Datacenters;
  let foreign: ServerProcess;
  let alone: ServerProcess;
  const servers = new Map<string, ServerProcess>();
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-promote-"));
    all = await startDatacenters({ MESHCA_KEK: KEK_1 });
    servers.set("primary", all.primary);
    servers.set("dc2", await all.start("dc2", { MESHCA_KEK: `${KEK_2},${KEK_1}` }));
    servers.set("dc3", await all.start("dc3", { MESHCA_KEK: KEK_3 }));
    foreign = await startServer({ MESHCA_KEK: KEK_1, MESHCA_PRIMARY_DATACENTER: "dc1" });
    servers.set("foreign", foreign);
    alone = await startServer();
    servers.set("alone", alone);
    for (const name of ["primary", "dc2", "foreign"])
      await until(
        async () => (await meshca(["backup", "save", join(folder, name)], at(name))).code === 0,
      );
    await until(async () => (await meshca(["roots"], at("dc3"))).code === 0);
    for (const [name, text] of [
      ["text", "hello"],
      ["empty", ""],
      ["json", "{}"],
    ] as const)
      writeFileSync(join(folder, name), text);
  }, OPTIONS);
  after(async () => {
    await all?.stop();
    await foreign?.stop();
    await alone?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const at = (name: string, token = MANAGEMENT): Record<string, string> => {
    const url = servers.get(name)?.url ?? assert.fail(name);
    if (name === "alone" || name === "foreign") return { MESHCA_HTTP_ADDR: url };
    return { MESHCA_HTTP_ADDR: url, MESHCA_CACERT: all.caFile, MESHCA_HTTP_TOKEN: token };
  };
  const argsOf = (flags: string) => [
    ...["datacenter", "promote"],
    ...flags.replaceAll("{folder}", folder).split(" "),
  ];
  const statusOf = async (name: string) => (await meshca(["roots", "--json"], at(name))).stdout;

  for (const [what, name, flags, code, text] of ROWS)
    it(`${what}: ${flags}`, OPTIONS, async () => {
      const before = await statusOf(name);
      const ran = await meshca(argsOf(flags), at(name));
      assert.deepEqual([ran.code, ran.stdout], [code, ""], ran.stderr);
      assert.match(ran.stderr.trimEnd(), text);
      assert.equal(await statusOf(name), before);
    });

  it("a token without the right operator:write", OPTIONS, async () => {
    const two = servers.get("dc2") ?? assert.fail();
    const rules = { Name: "read", Rules: 'operator = "read"' };
    const { ID } = JSON.parse(await call(two, "PUT", "/v1/acl/policy", rules)) as { ID: string };
    const made = await call(two, "PUT", "/v1/acl/token", { Policies: [{ ID }] });
    const { SecretID } = JSON.parse(made) as { SecretID: string };
    const { code, stderr } = await meshca(
      argsOf("--backup {folder}/primary --yes"),
      at("dc2", SecretID),
    );
    assert.equal(code, 77, stderr);
    assert.match(stderr, /^Permission denied: .* lacks permission 'operator:write'; give a token/);
  });

  it("an answer other than yes on a terminal", OPTIONS, async () => {
    const { code, screen } = await meshcaOnTerminal(
      argsOf("--backup {folder}/primary"),
      at("dc2"),
      { columns: 250, type: [["[y/N]", "n\r"]] },
    );
    assert.equal(code, 1, screen);
    assert.match(
      plain(screen),
      /Make the datacenter of \S+ the primary one of \S+, whose active root is [0-9a-f:]{59}\?/,
    );
    assert.match(plain(screen), /Nothing was changed/);
  });
});
