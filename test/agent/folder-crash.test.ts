/**
 * An agent that is killed while it writes a credential folder, at every call and at any moment: what
 * others read is always one valid generation, and the next agent takes over.
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { base64 } from "../../src/core/bytes.ts";
import { configuration, createTestCa } from "../fakes/ca.ts";
import { createSeededRandom } from "../fakes/clock.ts";
import { generationsIn, privateFolder } from "../fixtures/folder.ts";
import { ROOT } from "../fixtures/root.ts";
import { bundleOf, makeSvid } from "../fixtures/svid.ts";

const RUNTIMES = {
  node: ["node_modules/.bin/node"],
  bun: ["node_modules/.bin/bun"],
  deno: ["node_modules/deno/deno", "run", "--no-lock", "--no-check", "--allow-all"],
} as const;
const SVIDS = join(privateFolder(), "svids.json");

before(async () => {
  const { manager } = await createTestCa();
  const stored: object[] = [];
  for (const PrivateKeyBits of [256, 384]) {
    await manager.configure(configuration({ PrivateKeyType: "ec", PrivateKeyBits }));
    const svid = await makeSvid(manager, "web");
    stored.push({
      ...{ spiffeId: svid.spiffeId, notAfter: svid.notAfter },
      chain: svid.chain.map(base64),
      privateKey: base64(svid.privateKey),
      roots: bundleOf(manager).roots.map(base64),
      trustDomain: bundleOf(manager).trustDomain,
    });
  }
  writeFileSync(SVIDS, JSON.stringify(stored));
});

interface Child {
  readonly process: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<NodeJS.Signals | null>;
}

function start(
  [program, ...flags]: readonly [string, ...string[]],
  path: string,
  killAt = 0,
): Child {
  const args = [...flags, "test/agent/folder-child.ts", SVIDS, path, String(killAt)];
  const child = spawn(program, args, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  const ended = new Promise<NodeJS.Signals | null>((resolve) => {
    child.once("close", (_, signal) => resolve(signal));
  });
  return { process: child, output: () => output, ended };
}

/** Requires that the key of a text belongs to its first certificate. */
function requirePair(certificates: string, key: string): void {
  assert.ok(new X509Certificate(certificates).checkPrivateKey(createPrivateKey(key)));
}

/** The text of a file, or null if it is not there. */
function read(...names: string[]): string | null {
  try {
    return readFileSync(join(...names), "utf8");
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ENOENT");
    return null;
  }
}

/**
 * Reads as a service does: the bundle in one read, and the other files of the generation that
 * `..data` leads to. @returns whether there was a whole generation
 */
function requireConsistent(path: string): boolean {
  const bundle = read(path, "credential-bundle.private-key.pem");
  if (bundle !== null) requirePair(bundle, bundle);
  const combined = read(path, "tls.pem");
  if (combined !== null) requirePair(combined, combined);
  let generation: string;
  try {
    generation = readlinkSync(join(path, "..data"));
  } catch {
    assert.equal(bundle, null);
    return false;
  }
  const [chain, key, roots] = ["tls.crt", "tls.key", "ca.crt"].map((name) =>
    read(path, generation, name),
  );
  if (typeof chain !== "string" || typeof key !== "string" || typeof roots !== "string") {
    // Two generations later it is removed.
    assert.notEqual(readlinkSync(join(path, "..data")), generation);
    return false;
  }
  requirePair(chain, key);
  // The second SVID has two roots, and its own is the last certificate of its chain's issuer.
  const issuers = roots.split(/(?=-----BEGIN)/).map((pem) => new X509Certificate(pem));
  assert.ok(issuers.some((issuer) => new X509Certificate(chain).verify(issuer.publicKey)));
  return true;
}

describe("credential folder of an agent that is killed", () => {
  it("is consistent before every change of the file system, and the next agent takes over", async () => {
    const path = join(privateFolder(), "web");
    let [killAt, isOver] = [0, false];
    while (!isOver) {
      killAt += 1;
      const child = start(RUNTIMES.node, path, killAt);
      const signal = await child.ended;
      isOver = signal === null;
      assert.ok(isOver ? child.output().includes("calls") : signal === "SIGKILL", child.output());
      requireConsistent(path);
    }
    assert.ok(killAt > 30, `only ${killAt} changes`);
    assert.ok(requireConsistent(path));
    assert.ok(generationsIn(path).length <= 2);
    assert.deepEqual(
      readdirSync(path).filter((name) => name.startsWith("..lock") || name === "..data_next"),
      [],
    );
  });

  for (const [runtime, command] of Object.entries(RUNTIMES))
    it(`is consistent for a reader at any moment, on ${runtime}`, async () => {
      const random = createSeededRandom(1);
      const path = join(privateFolder(), "web");
      let reads = 0;
      for (let i = 0; i < 8; i++) {
        const child = start(command, path);
        let isOver = false;
        const until = { kill: Number.POSITIVE_INFINITY };
        void child.ended.then(() => {
          isOver = true;
        });
        while (!isOver) {
          if (requireConsistent(path)) reads += 1;
          if (until.kill === Number.POSITIVE_INFINITY && child.output().includes("started"))
            until.kill = performance.now() + random.fraction() * 120;
          if (performance.now() > until.kill) child.process.kill("SIGKILL");
          await new Promise((resolve) => setImmediate(resolve));
        }
        assert.equal(await child.ended, "SIGKILL", child.output());
      }
      assert.ok(reads > 50, `only ${reads} reads`);
    });
});
