/**
 * Leaves of three datacenters at each moment of a rotation, in real handshakes on the libraries that
 * verify them elsewhere, as a client and as a server: by every listing of roots that any datacenter
 * published, and by each root that a client may have as its only one.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { noRedis } from "../redis/server.ts";
import {
  inLanes,
  type Leaf,
  newFolder,
  newName,
  type Peers,
  remove,
  SUBJECT_KEYS,
  startPeers,
} from "../rotation/harness.ts";
import { opensslVerify } from "../rotation/late-verifiers.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import {
  LIBRARIES,
  type Library,
  noPeer,
  peerCommand,
  type Verdict,
  verdicts,
} from "../verifiers/peers.ts";
import { checkMesh } from "./check.ts";
import { MeshRecorder } from "./history.ts";
import { type Mesh, startMesh } from "./mesh.ts";
import type { MeshDatacenter, SignedLeaf } from "./mesh-datacenter.ts";

const OPTIONS = { timeout: 300_000 };
const GOOD: Verdict = { client: null, server: null };
const SERVICES = ["web", "api", "db"];

/** A leaf that was signed at a moment. */
interface Signed extends SignedLeaf {
  readonly moment: string;
  /** Each root that its datacenter published then: a client may have fetched it when it was the only one. */
  readonly singles: readonly string[];
}

describe("leaves of three datacenters on other TLS libraries", { skip: noRedis }, () => {
  let folder: string;
  const leaves: Signed[] = [];
  /** The listings of roots that any datacenter published, each once. */
  const listings = new Map<string, readonly string[]>();
  const moments: string[] = [];
  const recorder = new MeshRecorder();
  const files = new Map<string, string>();
  const fileOf = (text: string): string => {
    const path = files.get(text) ?? join(folder, `${files.size}.pem`);
    if (!files.has(text)) writeFileSync(path, text);
    files.set(text, path);
    return path;
  };

  /** Signs a leaf in each datacenter, and keeps what each publishes. */
  async function record(mesh: Mesh, moment: string): Promise<void> {
    moments.push(moment);
    for (const datacenter of mesh.datacenters) {
      const reads = await recorder.read(datacenter);
      const singles = (reads[0]?.roots ?? []).map(({ pem }) => pem);
      listings.set(singles.toSorted().join(""), singles);
      const turn = moments.length + mesh.datacenters.indexOf(datacenter);
      const keys = SUBJECT_KEYS[turn % SUBJECT_KEYS.length];
      const service = SERVICES[turn % SERVICES.length] as string;
      const leaf = await recorder.sign(datacenter, service, keys);
      leaves.push({ ...leaf, moment, singles });
    }
  }

  /** The sets of roots by which a leaf must verify. */
  const setsFor = ({ singles }: Signed): readonly (readonly string[])[] => [
    ...singles.map((root) => [root]),
    ...listings.values(),
  ];

  before(async () => {
    folder = newFolder();
    for (const library of LIBRARIES) if (noPeer(library) === false) await peerCommand(library);
    const mesh = await startMesh({ traffic: false });
    try {
      await throughRotations(mesh, record);
    } finally {
      await mesh.stop();
    }
  }, OPTIONS);
  after(() => remove(folder));

  it("are signed at every moment, under up to four roots", () => {
    assert.equal(leaves.length, 3 * moments.length);
    assert.deepEqual(
      [...listings.values()].map(({ length }) => length),
      [1, 2, 3, 4],
    );
  });

  it("break no invariant", OPTIONS, async () => {
    assert.deepEqual(await checkMesh(recorder), []);
  });

  it("verify by OpenSSL, strictly", OPTIONS, async () => {
    for (const leaf of leaves)
      for (const roots of setsFor(leaf)) {
        const [set, chain] = [fileOf(roots.join("")), fileOf(leaf.pem)];
        assert.equal(await opensslVerify(set, chain, [chain]), null, nameOf(leaf));
      }
  });

  for (const [name, [program]] of [
    ["OpenSSL (Node)", COMMANDS.node()],
    ["BoringSSL (Bun)", COMMANDS.bun()],
  ] as const)
    it(`shake hands with each other on ${name}`, OPTIONS, async () => {
      const peers = await startPeers(1, program);
      try {
        assert.deepEqual(await faultsAmong(peers), []);
      } finally {
        await peers.close();
      }
    });

  for (const library of LIBRARIES)
    it(`shake hands on ${library}`, { ...OPTIONS, skip: noPeer(library) }, async () => {
      assert.deepEqual(await faultsOf(library), []);
    });

  /** Every leaf calls and is called by one of another datacenter and moment, under each pair of sets. */
  async function faultsAmong(peers: Peers): Promise<string[]> {
    const named = leaves.map((leaf) => ({ leaf, presented: presentedBy(leaf) }));
    const sets = new Map([...listings].map(([key, ca]) => [key, { name: newName(), ca }]));
    const pairs = named.flatMap((one) =>
      named
        .filter(({ leaf }) => leaf.datacenter !== one.leaf.datacenter)
        .map((other) => [one, other] as const),
    );
    const faults = await inLanes(16, pairs, async ([one, other]) => {
      const turn = pairs.findIndex((pair) => pair[0] === one && pair[1] === other);
      const all = [...sets.values()];
      const roots = (at: number) => all[at % all.length] ?? assert.fail();
      const fault = await peers.attempt(
        { leaf: one.presented, roots: roots(turn) },
        { leaf: other.presented, roots: roots(Math.floor(turn / all.length)) },
      );
      return fault === null ? [] : [`${nameOf(other.leaf)} calls ${nameOf(one.leaf)}: ${fault}`];
    });
    return faults.flat();
  }

  async function faultsOf(library: Library): Promise<string[]> {
    // One of the leaves that are presented with the same chain.
    const chains = new Map(leaves.map((leaf) => [presentedBy(leaf).chain || leaf.moment, leaf]));
    const faults = await inLanes(2, [...chains.values()], async (leaf) => {
      // GnuTLS looks for a trusted key at the end of a chain only: it needs all published roots.
      const sets = library === "GnuTLS" ? [...listings.values()] : setsFor(leaf);
      const said = await verdicts(library, {
        chain: fileOf(leaf.pem),
        key: fileOf(leaf.key),
        roots: sets.map((roots) => fileOf(roots.join(""))),
      });
      return said
        .filter((verdict) => JSON.stringify(verdict) !== JSON.stringify(GOOD))
        .map((verdict) => `${nameOf(leaf)}: ${JSON.stringify(verdict)}`);
    });
    return faults.flat();
  }
});

const nameOf = ({ datacenter, moment }: Signed): string => `leaf of ${datacenter}, ${moment}`;

/** A leaf as the peers of the rotation tests take it. */
function presentedBy({ pem, key, uri }: SignedLeaf): Leaf {
  const end = "-----END CERTIFICATE-----\n";
  const length = pem.indexOf(end) + end.length;
  const serial = new X509Certificate(pem).serialNumber;
  return {
    name: newName(),
    ...{ own: pem.slice(0, length), chain: pem.slice(length) },
    ...{ key, uri, serial },
  };
}

/** Every moment of rotations at which datacenters can differ. */
async function throughRotations(
  mesh: Mesh,
  record: (mesh: Mesh, moment: string) => Promise<void>,
): Promise<void> {
  const [dc1, dc2, dc3] = mesh.datacenters as readonly [
    MeshDatacenter,
    MeshDatacenter,
    MeshDatacenter,
  ];
  await record(mesh, "before a rotation");
  for (const each of [dc2, dc3]) each.cutOff();
  await dc1.rotate();
  await record(mesh, "after the commit, and before the others followed");
  dc2.reconnect();
  await mesh.followed([dc1, dc2]);
  await record(mesh, "while dc3 is cut off");
  await dc1.rotate();
  await mesh.followed([dc1, dc2]);
  await record(mesh, "after a second rotation, while dc3 is cut off");
  dc3.reconnect();
  await mesh.followed();
  await record(mesh, "after dc3 has come back");
  for (const each of [dc2, dc3]) await each.rotate();
  await dc1.rotate();
  await mesh.followed();
  await record(mesh, "after renewals of intermediates and a third rotation");
}
