/**
 * Rotation under traffic: through ten rotations no TLS handshake fails between peers that fetch
 * leaves and roots whenever they like, and the same handshakes do fail if something that
 * rotation rests on is taken away.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { confirmOver, createTestCa, trustDomain } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import {
  type CaProcess,
  createIdentities,
  type Holding,
  type Identity,
  inNewFolder,
  type Leaf,
  leafOf,
  newName,
  type Peers,
  type Roots,
  SUBJECT_KEYS,
  serveCa,
  startPeers,
} from "./harness.ts";
import { BEHIND_MS, opensslVerify } from "./late-verifiers.ts";
import { createMesh, type Mesh } from "./mesh.ts";

const HANDSHAKES_PER_ROTATION = 1000;

type KeySpec = readonly [type: "ec" | "rsa", bits: number];

/**
 * The root's key after each rotation, from `ec 256` on. What is in one row follows at once: within
 * one second, as is printed.
 */
const ROTATIONS: readonly (readonly KeySpec[])[] = [
  [["ec", 256]],
  [["ec", 384]],
  [["rsa", 2048]],
  [["rsa", 2048]],
  [["rsa", 4096]],
  [["ec", 521]],
  [["ec", 256]],
  [
    ["ec", 384],
    ["ec", 256],
    ["ec", 256],
  ],
];

/**
 * What is said of a leaf without a path to a trusted root. The last is for one that was given no
 * chain: the TLS library then presents what it finds among the roots that it trusts itself.
 */
const NO_PATH =
  "(UNABLE_TO_GET_ISSUER_CERT_LOCALLY|UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN)";

describe("rotation under TLS traffic", () => {
  let peers: Peers;
  before(async () => {
    peers = await startPeers(2);
  });
  after(() => peers.close());

  it("rotate() ten times fails no handshake, whatever each side has fetched, also 30 s behind", {
    timeout: 300_000,
  }, async () => {
    await withCa(async (ca) => {
      const mesh = await createMesh(ca, peers);
      try {
        await rotateTenTimes(ca, mesh);
        await verifyNewestUnderEachRoot(mesh);
      } finally {
        mesh.close();
      }
    });
  });

  it("a leaf whose chain lacks the cross-signed certificates fails before verifiers that have not refreshed", async () => {
    await withCa(async (ca) => {
      const { answer, set: old } = await rootsOf(ca);
      const [identity] = createIdentities(answer.TrustDomain, 1) as [Identity];
      const first = await ca.sign(identity);
      await ca.rotate();
      const { set: refreshed } = await rootsOf(ca);
      const whole = await ca.sign(identity);
      const bare: Leaf = { ...whole, name: newName(), chain: "" };

      const stayed = { leaf: first, roots: old };
      assert.equal(await peers.attempt({ leaf: whole, roots: refreshed }, stayed), null);
      assert.equal(await peers.attempt(stayed, { leaf: whole, roots: refreshed }), null);
      assert.equal(
        await peers.attempt({ leaf: bare, roots: refreshed }, { leaf: first, roots: refreshed }),
        null,
      );
      await refusesBothWays(peers, stayed, { leaf: bare, roots: refreshed });
    });
  });

  it("a leaf that outlives its root's place in the listing fails before verifiers that have refreshed", async () => {
    const clock = createFakeClock(new Date());
    const { manager } = await createTestCa({
      clock,
      policy: { ...DEFAULT_POLICY, pruneFactor: 0 },
    });
    const [identity] = createIdentities(trustDomain(manager), 1) as [Identity];
    const fetch = (): Roots => ({
      name: newName(),
      ca: manager.require().state.roots.map(({ certificate }) => pemOf(certificate)),
    });
    const sign = async () => {
      const { certificatePem, serialNumber } = await manager.sign(identity.csr);
      return leafOf(identity, certificatePem, serialNumber);
    };
    const old = { leaf: await sign(), roots: fetch() };
    await manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    const both = fetch();
    const leaf = await sign();
    assert.equal(await peers.attempt({ leaf, roots: both }, old), null);
    clock.advance(1);
    await confirmOver({ manager, clock });
    assert.equal((await manager.tick()).kind, "prune");
    const pruned = fetch();
    assert.deepEqual([both.ca.length, pruned.ca.length], [2, 1]);

    await refusesBothWays(peers, { leaf, roots: pruned }, old);
  });

  it("a new leaf fails before a verifier whose clock is 90 s behind, and not before one that is 30 s behind", async () => {
    await withCa(async (ca) => {
      const { answer, set } = await rootsOf(ca);
      const [identity] = createIdentities(answer.TrustDomain, 1) as [Identity];
      const leaf = await ca.sign(identity);
      await inNewFolder(async (folder) => {
        const [roots, own] = [join(folder, "roots.pem"), join(folder, "leaf.pem")];
        writeFileSync(roots, set.ca.join(""));
        writeFileSync(own, leaf.own);
        const behind = (ms: number) => opensslVerify(roots, null, [own], new Date(Date.now() - ms));
        assert.equal(await behind(BEHIND_MS), null);
        assert.match(String(await behind(3 * BEHIND_MS)), /certificate is not yet valid/);
      });
    });
  });
});

async function rotateTenTimes(ca: CaProcess, mesh: Mesh): Promise<void> {
  const roots = [await mesh.record()];
  const families = new Set<string>();
  let [total, leavesDuring] = [0, 0];
  for (const keys of ROTATIONS) {
    const first = roots.length - 1;
    let took = 0;
    const counts = await mesh.window(HANDSHAKES_PER_ROTATION * keys.length, async () => {
      const began = performance.now();
      for (const [type, bits] of keys) {
        const same = roots.at(-1)?.rootKey === `${type} ${bits}`;
        await (same ? ca.rotate() : ca.configure({ PrivateKeyType: type, PrivateKeyBits: bits }));
        took = performance.now() - began;
        roots.push(await mesh.record());
        assert.equal(roots.at(-1)?.rootKey, `${type} ${bits}`);
      }
    });
    const walked = roots.slice(first).map(({ rootKey }) => rootKey);
    for (const [at, key] of walked.slice(1).entries())
      families.add(`${walked[at]?.split(" ")[0]} -> ${key.split(" ")[0]}`);
    assert.ok(counts.handshakes >= HANDSHAKES_PER_ROTATION * keys.length);
    assert.ok(counts.during > 0, "The CA rotated while there was no traffic");
    total += counts.handshakes;
    leavesDuring += counts.leavesDuring;
    console.log(
      `${walked.join(" -> ")} in ${Math.round(took)} ms: ${counts.handshakes} handshakes, ${counts.during} of them during rotations, 0 failed; ` +
        `${counts.leaves} leaves (${counts.leavesDuring} during rotations) and ${counts.fetches} times roots fetched`,
    );
  }
  assert.equal(new Set(roots.map(({ rootId }) => rootId)).size, 11);
  assert.deepEqual(families, new Set(["ec -> ec", "ec -> rsa", "rsa -> ec", "rsa -> rsa"]));
  assert.ok(leavesDuring >= 10, `only ${leavesDuring} leaves were asked for while the CA rotated`);
  const { asked, distinct, runs } = mesh.late;
  // Two verifications in each handshake.
  assert.ok(asked > 0.4 * 2 * total, `${asked} of ${2 * total} verifiers were late`);
  console.log(
    `${roots.length - 1} rotations: ${total} handshakes, 0 failed; ${asked} of ${2 * total} verifications were 30 s behind ` +
      `(${distinct} distinct, in ${runs} runs of openssl)`,
  );
}

/**
 * Has openssl verify the newest leaves, one for each kind of key, under each root taken
 * by itself.
 */
async function verifyNewestUnderEachRoot(mesh: Mesh): Promise<void> {
  const newest = mesh.leaves.slice(-SUBJECT_KEYS.length).map(({ leaf }) => leaf);
  await inNewFolder(async (folder) => {
    const write = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const own = newest.map((leaf) => write(`${leaf.name}.pem`, leaf.own));
    const chain = write("chain.pem", newest[0]?.chain ?? "");
    for (const anchor of mesh.anchors)
      assert.equal(await opensslVerify(write("root.pem", anchor.ca.join("")), chain, own), null);
    console.log(
      `the last chain, of ${newest[0]?.chain.length} octets, verifies under each of ${mesh.anchors.length} roots by itself`,
    );
  });
}

/** One side finds no path for the other's leaf, be it the client or the server. */
async function refusesBothWays(peers: Peers, verifier: Holding, refused: Holding): Promise<void> {
  assert.match(
    (await peers.attempt(refused, verifier)) ?? "no fault",
    new RegExp(`^client: ${NO_PATH}`),
  );
  assert.match(
    (await peers.attempt(verifier, refused)) ?? "no fault",
    new RegExp(`^server: ${NO_PATH}`),
  );
}

async function rootsOf(ca: CaProcess) {
  const answer = await ca.roots();
  const set: Roots = { name: newName(), ca: answer.Roots.map(({ RootCert }) => RootCert) };
  return { answer, set };
}

async function withCa(work: (ca: CaProcess) => Promise<void>): Promise<void> {
  const ca = await serveCa();
  try {
    await work(ca);
  } finally {
    await ca.close();
  }
}
