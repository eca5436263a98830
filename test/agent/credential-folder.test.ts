/**
 * A credential folder with certificates of a real CA: what the files contain, and how they change.
 * @module
 */
import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, before, describe, it } from "node:test";
import type { CredentialFolderOptions } from "../../src/agent/credential-folder.ts";
import type { TrustBundle } from "../../src/client/svid.ts";
import { readPem } from "../../src/core/pem.ts";
import { configuration, createTestCa, openssl, type TestCa } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import {
  createFolder,
  generationOf,
  generationsIn,
  pass,
  privateFolder,
  textOf,
  until,
} from "../fixtures/folder.ts";
import { bundleOf, makeSvid } from "../fixtures/svid.ts";

let ca: TestCa;
const open: { close(): Promise<void> }[] = [];
before(async () => {
  ca = await createTestCa();
});
afterEach(async () => {
  for (const folder of open.splice(0)) await folder.close();
});

/** A folder that is closed after the test, with a clock of its own. */
function create(options: Partial<CredentialFolderOptions> = {}) {
  const made = createFolder(createFakeClock(ca.clock.now()), options);
  open.push(made.folder);
  return made;
}

/** A folder that has the first SVID already. */
async function started(options: Partial<CredentialFolderOptions> = {}) {
  const made = create(options);
  made.bundle.set(bundleOf(ca.manager));
  made.svid.set(await makeSvid(ca.manager, "web"));
  await made.folder.start();
  return made;
}

/** Waits for the generation after `before`. */
async function nextGeneration(
  { path, clock, folder }: ReturnType<typeof create>,
  before: string,
): Promise<string> {
  await pass(clock, 100);
  await until(() => generationOf(path) !== before);
  await folder.settled();
  return generationOf(path);
}

/** Whether the files are one valid pair, for each way to read them. */
function requirePair(path: string): void {
  const chain = textOf(path, "tls.crt");
  const key = textOf(path, "tls.key");
  const leaf = new X509Certificate(chain);
  assert.ok(leaf.checkPrivateKey(createPrivateKey(key)));
  assert.equal(textOf(path, "tls.pem"), chain + key);
  assert.equal(textOf(path, "credential-bundle.private-key.pem"), key + chain);
  openssl([
    ...["verify", "-x509_strict", "-attime", String(ca.clock.now().getTime() / 1000)],
    ...["-CAfile", join(path, "ca.crt")],
    ...["-untrusted", join(path, "tls.crt"), join(path, "tls.crt")],
  ]);
}

describe("credential folder", () => {
  it("has the files of SPIFFE and of a TLS secret, which belong together", async () => {
    const { path, folder, bundle, counts } = await started();
    assert.equal(folder.problem, null);
    const { trustDomain, roots } = bundle.current as TrustBundle;
    const names = [
      ...["ca.crt", "credential-bundle.private-key.pem", "tls.crt", "tls.key", "tls.pem"],
      `${trustDomain}.spiffe-trust-bundle.pem`,
    ];
    const visible = readdirSync(path).filter((name) => !name.startsWith(".."));
    assert.deepEqual(new Set(visible), new Set(names));
    for (const name of names) assert.equal(readlinkSync(join(path, name)), `..data/${name}`);
    requirePair(path);
    const blocks = readPem(textOf(path, "credential-bundle.private-key.pem"));
    assert.deepEqual(
      blocks.map(({ label }) => label),
      ["PRIVATE KEY", "CERTIFICATE"],
    );
    for (const name of ["ca.crt", `${trustDomain}.spiffe-trust-bundle.pem`])
      assert.deepEqual(
        readPem(textOf(path, name)).map(({ bytes }) => bytes),
        roots,
      );
    assert.deepEqual(counts, { ok: 1, failed: 0 });
  });

  it("gives others neither the key nor, by default, the folder, whatever the umask", async () => {
    for (const umask of [0o000, 0o077, 0o277]) {
      const before = process.umask(umask);
      const { path } = await started().finally(() => process.umask(before));
      const modeOf = (name: string) => (statSync(join(path, name)).mode & 0o7777).toString(8);
      assert.equal(modeOf("."), "700");
      assert.equal(modeOf("..data/"), "755");
      for (const name of ["tls.key", "tls.pem", "credential-bundle.private-key.pem"])
        assert.equal(modeOf(name), "600");
      for (const name of ["tls.crt", "ca.crt"]) assert.equal(modeOf(name), "644");
    }
  });

  it("lets a group read the key if its mode says so", async () => {
    const { path } = await started({ mode: 0o640, group: String(process.getegid?.()) });
    assert.equal(statSync(path).mode & 0o777, 0o750);
    assert.equal(statSync(join(path, "tls.key")).mode & 0o777, 0o640);
    assert.equal(statSync(join(path, "tls.crt")).mode & 0o777, 0o644);
  });

  it("writes when there is an SVID, and says until then what is missing", async () => {
    const { folder, path, svid, bundle, workload, clock } = create();
    workload.problem = "the server cannot be reached";
    await folder.start();
    assert.match(
      folder.problem ?? "",
      /has no files yet, because web has no certificate: the server/,
    );
    svid.set(await makeSvid(ca.manager, "web"));
    await pass(clock, 100);
    assert.match(folder.problem ?? "", /has no files yet, because the roots are not known: the/);
    bundle.set(bundleOf(ca.manager));
    await pass(clock, 100);
    await until(() => folder.problem === null);
    requirePair(path);
  });

  it("replaces all files by one rename, and keeps the generation before for a minute", async () => {
    const made = await started();
    const { path, svid, clock } = made;
    const first = generationOf(path);
    const key = textOf(path, "tls.key");
    svid.set(await makeSvid(ca.manager, "web"));
    const second = await nextGeneration(made, first);
    requirePair(path);
    assert.notEqual(textOf(path, "tls.key"), key);
    assert.equal(textOf(path, `${first}/tls.key`), key);
    await pass(clock, 60_000);
    await until(() => generationsIn(path).length === 1);
    assert.deepEqual(generationsIn(path), [second]);
  });

  it("writes a change of the roots, and changes at the same time once", async () => {
    const made = await started();
    const { path, svid, bundle, counts } = made;
    const first = generationOf(path);
    await ca.manager.configure(configuration({ PrivateKeyType: "rsa", PrivateKeyBits: 2048 }));
    const roots = bundleOf(ca.manager);
    bundle.set(roots);
    const second = await nextGeneration(made, first);
    assert.equal(readPem(textOf(path, "ca.crt")).length, 2);
    assert.equal(textOf(path, `${first}/tls.key`), textOf(path, "tls.key"));
    bundle.set({ ...roots, index: roots.index + 1 });
    svid.set(await makeSvid(ca.manager, "web"));
    await nextGeneration(made, second);
    requirePair(path);
    assert.equal(counts.ok, 3);
  });

  it("does not write again what is in place after a restart, and what is not", async () => {
    const { folder, path, svid, bundle } = await started();
    const first = generationOf(path);
    await folder.close();
    const again = create({ path });
    again.bundle.set(bundle.current);
    again.svid.set(svid.current);
    await again.folder.start();
    assert.equal(generationOf(path), first);
    assert.deepEqual(again.counts, { ok: 0, failed: 0 });
    await again.folder.close();
    // A mode that changed is not in place any more.
    chmodSync(join(path, "tls.key"), 0o644);
    const third = create({ path });
    third.bundle.set(bundle.current);
    third.svid.set(svid.current);
    await third.folder.start();
    assert.notEqual(generationOf(path), first);
    assert.equal(statSync(join(path, "tls.key")).mode & 0o777, 0o600);
    assert.deepEqual(generationsIn(path).length, 2);
  });

  for (const [what, damage] of [
    ["a file was deleted", (path: string) => rmSync(join(path, "..data/tls.key"))],
    ["a file was changed", (path: string) => writeFileSync(join(path, "..data/ca.crt"), "x")],
    ["the link ..data was deleted", (path: string) => rmSync(join(path, "..data"))],
    ["the folder was deleted", (path: string) => rmSync(path, { recursive: true })],
  ] as const)
    it(`writes the files again within a minute after ${what}`, async () => {
      const made = await started();
      const { path, folder, lines, clock } = made;
      damage(path);
      await pass(clock, 60_000);
      await until(() => lines.some((line) => line.startsWith("warn Files of a credential folder")));
      requirePair(path);
      assert.equal(folder.problem, null);
    });

  it("makes a visible name that was deleted", async () => {
    const { path, clock } = await started();
    rmSync(join(path, "tls.crt"));
    await pass(clock, 60_000);
    await until(() => readdirSync(path).includes("tls.crt"));
    requirePair(path);
  });

  it("keeps the files after the end of the leaf, and says so", async () => {
    const { path, folder, svid, workload, lines, clock } = await started();
    const key = textOf(path, "tls.key");
    workload.problem = "the server cannot be reached";
    const { notAfter } = svid.current ?? assert.fail();
    clock.jump(notAfter.getTime() - clock.now().getTime());
    svid.set(null);
    await pass(clock, 100);
    await until(() => lines.some((line) => line.startsWith("error")));
    assert.equal(textOf(path, "tls.key"), key);
    assert.deepEqual(
      lines.filter((line) => line.startsWith("error")),
      [
        "error The certificate in a credential folder expired; its files stay in place: the server cannot be reached",
      ],
    );
    assert.match(folder.problem ?? "", /has a certificate that expired at .*: the server cannot/);
  });

  it("removes the trust bundle of a former trust domain, and nothing of others", async () => {
    const { folder, path, svid, bundle } = await started();
    await folder.close();
    const [former] = readdirSync(path).filter((name) => name.includes("trust-bundle"));
    writeFileSync(join(path, "other.pem"), "other");
    symlinkSync("/etc/hostname", join(path, "link.pem"));
    mkdirSync(join(path, "..2026_11_27_08_00_00.123456789"));
    mkdirSync(join(path, "..20260101T000000Z-0123456789abcdef"));
    symlinkSync("nowhere", join(path, "..data_next"));
    const again = create({ path });
    const [leaf, roots] = [svid.current ?? assert.fail(), bundle.current ?? assert.fail()];
    again.bundle.set({ ...roots, trustDomain: "mesh.example" });
    again.svid.set({ ...leaf, spiffeId: "spiffe://mesh.example/ns/default/dc/dc1/svc/web" });
    await again.folder.start();
    const names = readdirSync(path);
    assert.ok(names.includes("mesh.example.spiffe-trust-bundle.pem"));
    assert.ok(former !== undefined && !names.includes(former));
    for (const other of ["other.pem", "link.pem", "..2026_11_27_08_00_00.123456789"])
      assert.ok(names.includes(other), other);
    assert.ok(!names.includes("..data_next"));
    assert.ok(!names.includes("..20260101T000000Z-0123456789abcdef"));
    assert.equal(lstatSync(join(path, "other.pem")).isFile(), true);
  });

  it("keeps the generation before if a write fails half-way, and retries", async () => {
    const { folder, path, svid, lines, counts, clock } = await started();
    const first = generationOf(path);
    // Every file of the next generation is written before this fails.
    mkdirSync(join(path, "..data_next"));
    svid.set(await makeSvid(ca.manager, "web"));
    await pass(clock, 100);
    await until(() => folder.problem !== null);
    assert.match(folder.problem ?? "", /cannot be written: .*; the files of certificate .* stay$/);
    assert.equal(generationOf(path), first);
    assert.deepEqual(generationsIn(path), [first]);
    requirePair(path);
    assert.equal(counts.failed, 1);
    for (const seconds of [1, 2, 4]) {
      const { failed } = counts;
      await pass(clock, seconds * 1000 - 1);
      assert.equal(counts.failed, failed);
      await pass(clock, 1);
      await until(() => counts.failed === failed + 1);
    }
    assert.equal(lines.filter((line) => line.startsWith("error")).length, 1);
    rmSync(join(path, "..data_next"), { recursive: true });
    await pass(clock, 8000);
    await until(() => folder.problem === null);
    assert.notEqual(generationOf(path), first);
    requirePair(path);
  });

  it("does not write an SVID that its bundle does not fit", async () => {
    const { folder, path, bundle, clock } = await started();
    const first = generationOf(path);
    const roots = bundle.current ?? assert.fail();
    for (const [wrong, reason] of [
      [{ ...roots, trustDomain: "other.example" }, "is not of trust domain other.example"],
      [{ ...roots, trustDomain: "../../etc/cron.d/x" }, "cannot be a file name"],
      [{ ...roots, trustDomain: ".." }, "cannot be a file name"],
      [{ ...roots, roots: [] }, "has no root"],
    ] as const) {
      bundle.set(wrong);
      await pass(clock, 100);
      await until(() => folder.problem?.includes(reason) === true);
      assert.equal(generationOf(path), first);
    }
  });

  it("works in a folder whose path has blanks and is too long for a socket", async () => {
    const path = join(privateFolder(), "a b", "ü".repeat(60), "c");
    const { folder } = await started({ path });
    assert.equal(folder.problem, null);
    requirePair(path);
    const second = create({ path });
    await assert.rejects(second.folder.start(), /is in use by another meshca agent/);
  });
});
