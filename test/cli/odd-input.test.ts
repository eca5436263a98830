/**
 * Files that are not files, addresses that are none, and empty values of flags.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { selfSigned } from "../tls/harness.ts";
import { meshca } from "./run.ts";

const OPTIONS = { timeout: 120_000 };

describe("odd input of commands", () => {
  let folder: string;
  let server: ServerProcess;
  before(async () => {
    server = await startServer({ MESHCA_STORE: "memory:", MESHCA_ACL: "off" });
    folder = mkdtempSync(join(tmpdir(), "meshca-odd-"));
    execFileSync("mkfifo", [join(folder, "fifo")]);
    mkdirSync(join(folder, "folder"));
    writeFileSync(join(folder, "leaf.pem"), selfSigned("web").cert);
    writeFileSync(join(folder, "open.pem"), selfSigned("web").key);
    chmodSync(join(folder, "open.pem"), 0o640);
    writeFileSync(join(folder, "other.pem"), selfSigned("web").key, { mode: 0o600 });
    writeFileSync(join(folder, "text"), "hello\n");
    writeFileSync(join(folder, "lines"), "a\nb\n");
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const run = (command: string, input = "") =>
    meshca(
      command === "" ? [] : command.split(" "),
      { MESHCA_HTTP_ADDR: server.url },
      input,
      [process.execPath],
      folder,
    );

  for (const [command, exit, reason] of [
    ["inspect /dev/zero", 66, 'The file "/dev/zero" cannot be read: it is not a regular file'],
    ["inspect fifo", 66, 'The file "fifo" cannot be read: it is not a regular file'],
    ["inspect 127.0.0.1:99999", 64, '"127.0.0.1:99999" is neither a file nor HOST:PORT'],
    ["inspect https://[", 64, '"https://[" is not a URL'],
    ["inspect https://u:secret@h/", 64, 'The URL "https://h" must not have a user'],
    ["sign folder", 66, 'The certificate request "folder" cannot be read: it is a folder'],
    ["backup restore fifo --yes", 66, 'The backup "fifo" cannot be read: it is not a regular file'],
    ["roots --token-file folder", 66, 'The token file "folder" cannot be read: it is a folder'],
    ["roots --ca-file fifo", 66, 'The CA file "fifo" cannot be read: it is not a regular file'],
    [
      "roots --client-cert leaf.pem --client-key open.pem",
      77,
      "open.pem has a private key and can be read by other users; run chmod 600 open.pem",
    ],
    ["roots --ca-file text", 65, 'The CA file "text" contains no certificate in PEM'],
    [
      "roots --client-cert leaf.pem --client-key other.pem",
      65,
      'The key file "other.pem" contains a private key that does not match the certificate',
    ],
    [
      "roots --client-cert text --client-key other.pem",
      65,
      'The client certificate "text" contains no certificate in PEM',
    ],
    [
      "renew --cert leaf.pem --key fifo --key-out k",
      66,
      'The key file "fifo" cannot be read: it is not a regular file',
    ],
    [
      "sign --service web --key-out none/key.pem",
      73,
      'The file "none/key.pem" cannot be written: there is no folder "none"',
    ],
    [
      "backup save none/a.backup",
      73,
      'The file "none/a.backup" cannot be written: there is no folder "none"',
    ],
    ["sign --service web --key-out one.pem --out one.pem", 64, 'The file "one.pem" is named twice'],
    [
      "roots --token-file lines",
      65,
      'The token in the file "lines" has characters that no token has',
    ],
    ["rotate --yes --modify-index=", 64, '--modify-index must be a whole number from 1, not ""'],
    [
      "rotate --yes --modify-index 1e0",
      64,
      '--modify-index must be a whole number from 1, not "1e0"',
    ],
    [
      "backup restore fifo --modify-index 0",
      64,
      '--modify-index must be a whole number from 1, not "0"',
    ],
    ["verify - --roots -", 64, "The leaf and the roots cannot both come from the standard input"],
  ] as const)
    it(`meshca ${command} exits with ${exit}`, OPTIONS, async () => {
      const { code, stdout, stderr } = await run(command);
      assert.deepEqual([code, stdout, stderr], [exit, "", `${reason}\n`]);
    });

  it("an empty flag of the connection is none", OPTIONS, async () => {
    for (const flag of ["http-addr", "token-file", "ca-file", "client-key", "datacenter"])
      assert.equal((await run(`roots --${flag}=`)).code, 0, flag);
  });

  it("inspect reads the standard input", OPTIONS, async () => {
    const { stdout } = await run("inspect -", selfSigned("web").cert);
    assert.match(stdout, /^The standard input: /);
  });

  it("renew names the file that is not a leaf of a mesh", OPTIONS, async () => {
    chmodSync(join(folder, "open.pem"), 0o600);
    const { code, stderr } = await run("renew --cert leaf.pem --key open.pem --key-out k");
    assert.equal(code, 65);
    assert.match(stderr, /^The file "leaf\.pem" is not a leaf of a mesh: /);
  });

  it("a group names where its commands are", OPTIONS, async () => {
    const { stderr } = await run("connect nonesuch");
    assert.equal(
      stderr,
      '"nonesuch" is not a command of meshca connect\nmeshca connect --help shows all commands\n',
    );
  });
});
