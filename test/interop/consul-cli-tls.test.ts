/**
 * `consul tls` and `meshca tls` side by side: what each prints, and the files that it makes.
 * @module
 */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { meshca, type Ran } from "../cli/run.ts";
import { clientCommand, noClient, type ProgramCommand } from "./clients.ts";

const skip = noClient("consul-cli");
const OPTIONS = { timeout: 300_000 };

/** Of a certificate what is not random: the address of Consul's maker is left out. */
function skeleton(path: string): string {
  const text = execFileSync("openssl", ["x509", "-in", path, "-noout", "-text"], {
    encoding: "utf8",
  });
  return text
    .replaceAll(/ C = US, .*, CN =/g, " CN =")
    .replaceAll(/Agent CA \d+/g, "Agent CA N")
    .replaceAll(/^ +(?:[0-9a-f]{2}:?)+$/gim, "")
    .replace(/Serial Number:.*/, "")
    .replaceAll(/\b[0-9A-F]{2}(?::[0-9A-F]{2}){31}\b/g, "KEY ID")
    .replaceAll(/\d\d:\d\d:\d\d/g, "TIME");
}

describe("consul tls and meshca tls", { skip }, () => {
  let consul: ProgramCommand;
  let folder: string;
  before(async () => {
    consul = await clientCommand("consul-cli");
    folder = mkdtempSync(join(tmpdir(), "meshca-tls-side-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function consulRun(args: readonly string[], cwd: string): Promise<Ran> {
    const [program, ...first] = consul;
    return new Promise((resolve) =>
      execFile(program, [...first, ...args], { cwd }, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
      ),
    );
  }

  const listing = (path: string) =>
    readdirSync(path).map((name) => [name, statSync(join(path, name)).mode & 0o777]);

  /** @param ca whether both have a CA of Consul's. @param code ours; Consul's is 1 for every error. */
  async function compare(args: readonly string[], ca: boolean, code: number): Promise<void> {
    const [theirs, ours] = ["theirs", "ours"].map((name) => join(folder, name)) as [string, string];
    for (const path of [theirs, ours]) {
      rmSync(path, { recursive: true, force: true });
      mkdirSync(path);
    }
    if (ca) {
      await consulRun(["tls", "ca", "create"], theirs);
      cpSync(theirs, ours, { recursive: true });
    }
    const expected = await consulRun(args, theirs);
    const ran = await meshca(args, {}, "", [process.execPath], ours);
    assert.deepEqual([ran.stdout, ran.stderr], [expected.stdout, expected.stderr]);
    assert.deepEqual([expected.code, ran.code], [code === 0 ? 0 : 1, code]);
    assert.deepEqual(listing(ours), listing(theirs));
    for (const name of readdirSync(ours)) {
      const [first, second] = [ours, theirs].map((path) => join(path, name)) as [string, string];
      if (name.endsWith("-key.pem"))
        assert.equal(readFileSync(first, "utf8").split("\n")[0], "-----BEGIN EC PRIVATE KEY-----");
      else assert.equal(skeleton(first), skeleton(second), name);
    }
  }

  for (const args of [
    [],
    ["-domain", "Foo.Example", "-days", "10", "-common-name", "X Y"],
    ["-cluster-id", "7D0bf800-7d57-4a82-37c8-1947050801c0", "-days=3"],
    ["-name-constraint", "-additional-name-constraint", "a.b", "-domain=x.y"],
    ["-name-constraint=true", "-additional-name-constraint=a.b", "-additional-name-constraint=c.d"],
    ["-common-name", ""],
  ])
    it(`ca create ${args.join(" ")} makes the same`, OPTIONS, () =>
      compare(["tls", "ca", "create", ...args], false, 0),
    );

  it("ca create refuses to overwrite in the same words", OPTIONS, () =>
    compare(["tls", "ca", "create"], true, 73),
  );

  for (const [code, ...args] of [
    [0, "-server"],
    [0, "-client", "-dc", "DC_2"],
    [0, "-cli", "-additional-ipaddress", "10.0.0.1"],
    [0, "-server", "-node", "n1", "-additional-dnsname", "*.a.b", "-additional-ipaddress=::1"],
    [0, "-server=true", "-client=false", "-days", "30"],
    [64],
    [64, "-server", "-client"],
    [64, "-client", "-node", "n1"],
    [64, "-client", "-ca="],
    [64, "-client", "-key="],
    [66, "-client", "-ca", "none.pem"],
    [66, "-client", "-key", "none.pem"],
    [66, "-client", "-domain", "foo"],
  ] as const)
    it(`cert create ${args.join(" ")} makes and prints the same`, OPTIONS, () =>
      compare(["tls", "cert", "create", ...args], true, code),
    );
});
