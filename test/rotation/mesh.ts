/**
 * The traffic of a mesh: peers that fetch roots and leaves at random moments, and a record of what
 * was fetched after each rotation, which is tried again after every later one.
 * @module
 */
import assert from "node:assert/strict";
import {
  type CaProcess,
  createIdentities,
  type Holding,
  type Identity,
  inLanes,
  type Leaf,
  newName,
  type Peers,
  type Roots,
  SUBJECT_KEYS,
} from "./harness.ts";
import { createLateVerifiers } from "./late-verifiers.ts";

/** Concurrent handshakes of recorded leaves and roots. */
const LANES = 32;
/** As many handshakes at once there are in living traffic. */
const LIVING_PEERS = 12;
/**
 * Before a handshake each side fetches roots, and a leaf, once in so many times; more often while
 * the CA rotates.
 */
const FETCH_ONCE_IN = { quiet: 16, rotating: 4 };

interface Peer {
  readonly identity: Identity;
  /** Whether its clock is behind. */
  readonly late: boolean;
  leaf: Leaf;
  roots: Roots;
}

export interface WindowCounts {
  handshakes: number;
  /** Those that ended while the CA was rotating. */
  during: number;
  leaves: number;
  /** Those that living peers asked for while the CA was rotating. */
  leavesDuring: number;
  fetches: number;
}

export interface Recorded {
  readonly rootId: string;
  /** Type and size of the active root's key. */
  readonly rootKey: string;
}

export interface Mesh {
  /** Every root that was active, each by itself, the oldest first. */
  readonly anchors: readonly Roots[];
  /** Leaves on record, the oldest first, one for each kind of key at a time. */
  readonly leaves: readonly { readonly leaf: Leaf; readonly generation: number }[];
  /**
   * How often a late verifier was asked, and how many leaves and runs of openssl answered for it.
   */
  readonly late: { readonly asked: number; readonly distinct: number; readonly runs: number };
  /** Puts on record the roots as they are, and a leaf for each kind of key. */
  record(): Promise<Recorded>;
  /**
   * Sends traffic before, during and after a change, until there were enough handshakes and every
   * leaf on record met every root set on record, in both roles.
   * @throws {AssertionError} when a handshake failed
   */
  window(handshakes: number, change: () => Promise<void>): Promise<WindowCounts>;
  close(): void;
}

export async function createMesh(ca: CaProcess, peers: Peers): Promise<Mesh> {
  const verifiers = createLateVerifiers();
  /** By their text, since a fetch that brings nothing new gives the same set. */
  const sets = new Map<string, Roots>();
  const anchors: Roots[] = [];
  /** The generation counts the roots that there had been. */
  const leaves: { readonly leaf: Leaf; readonly generation: number }[] = [];
  const faults: string[] = [];
  let counts: WindowCounts = { handshakes: 0, during: 0, leaves: 0, leavesDuring: 0, fetches: 0 };
  let changing = false;

  const setOf = (certificates: readonly string[]): Roots => {
    const text = certificates.toSorted().join("");
    const set = sets.get(text) ?? { name: newName(), ca: certificates };
    sets.set(text, set);
    return set;
  };
  const fetchRoots = async () => {
    counts.fetches++;
    const answer = await ca.roots();
    return { answer, set: setOf(answer.Roots.map(({ RootCert }) => RootCert)) };
  };
  const fetchLeaf = (identity: Identity): Promise<Leaf> => {
    counts.leaves++;
    return ca.sign(identity);
  };

  const identities = createIdentities((await ca.roots()).TrustDomain, LIVING_PEERS);
  const peerOf = async (identity: Identity, number: number): Promise<Peer> => ({
    identity,
    // Of each kind of key, one half.
    late: Math.floor(number / SUBJECT_KEYS.length) % 2 === 0,
    leaf: await fetchLeaf(identity),
    roots: (await fetchRoots()).set,
  });
  const living = await Promise.all(identities.map(peerOf));

  /** One handshake, of which each side may be late. */
  const attempt = async (
    server: Holding,
    client: Holding,
    late: { server: boolean; client: boolean },
  ) => {
    if (late.server) verifiers.note(client.leaf, server.roots);
    if (late.client) verifiers.note(server.leaf, client.roots);
    const fault = await peers.attempt(server, client);
    counts.handshakes++;
    if (changing) counts.during++;
    if (fault !== null) faults.push(fault);
  };

  const livingAttempt = async () => {
    const [server, client] = [pick(living), pick(living)];
    for (const peer of [server, client]) {
      const onceIn = changing ? FETCH_ONCE_IN.rotating : FETCH_ONCE_IN.quiet;
      if (chance(onceIn)) peer.roots = (await fetchRoots()).set;
      if (!chance(onceIn)) continue;
      if (changing) counts.leavesDuring++;
      peer.leaf = await fetchLeaf(peer.identity);
    }
    await attempt(server, client, { server: server.late, client: client.late });
  };

  /** Traffic of the living around a change that begins at a random moment. */
  const livingTraffic = async (least: number, change: () => Promise<void>) => {
    const begin = Math.floor((least / 2) * Math.random());
    const begun = Promise.withResolvers<void>();
    let changed = false;
    const rotation = async () => {
      await begun.promise;
      changing = true;
      await change().finally(() => {
        [changing, changed] = [false, true];
      });
    };
    const lane = async () => {
      while (!changed || counts.handshakes < least) {
        if (counts.handshakes >= begin) begun.resolve();
        await livingAttempt();
      }
    };
    await Promise.all([rotation(), ...Array.from({ length: LIVING_PEERS }, lane)]);
  };

  /**
   * The pairs of peers: a leaf before each set ever fetched, and before each single root that was
   * there when it was signed.
   */
  const meetings = (): Holding[] =>
    leaves.flatMap(({ leaf, generation }) =>
      [...new Set([...sets.values(), ...anchors.slice(0, generation)])].map((roots) => ({
        leaf,
        roots,
      })),
    );

  /**
   * Handshakes of recorded leaves and roots, so that each meeting takes place once on the server's
   * side and once on the client's.
   */
  const recordedTraffic = async (least: number) => {
    const all = meetings();
    const missing = Math.max(all.length, least - counts.handshakes);
    const shift = Math.floor(Math.random() * all.length);
    const numbers = Array.from({ length: missing }, (_, number) => number);
    await inLanes(LANES, numbers, (number) => {
      const one = at(all, number);
      // After one time round, by chance.
      const other = number < all.length ? at(all, number + shift) : pick(all);
      const late = { server: number % 2 === 0, client: number % 4 < 2 };
      return attempt(
        { leaf: one.leaf, roots: other.roots },
        { leaf: other.leaf, roots: one.roots },
        late,
      );
    });
  };

  return {
    anchors,
    leaves,
    late: verifiers.counts,
    async record() {
      const { answer } = await fetchRoots();
      const active = answer.Roots.find(({ ID }) => ID === answer.ActiveRootID);
      assert.ok(active);
      anchors.push({ name: newName(), ca: [active.RootCert] });
      const generation = anchors.length;
      const fresh = await Promise.all(identities.slice(0, SUBJECT_KEYS.length).map(fetchLeaf));
      leaves.push(...fresh.map((leaf) => ({ leaf, generation })));
      return { rootId: active.ID, rootKey: `${active.PrivateKeyType} ${active.PrivateKeyBits}` };
    },
    async window(handshakes, change) {
      counts = { handshakes: 0, during: 0, leaves: 0, leavesDuring: 0, fetches: 0 };
      await livingTraffic(handshakes / 2, change);
      const [, ...late] = await Promise.all([recordedTraffic(handshakes), verifiers.settle()]);
      const failed = [...faults, ...late.flat(), ...(await verifiers.settle())];
      assert.deepEqual(failed.slice(0, 5), [], `${failed.length} failed`);
      return counts;
    },
    close: () => verifiers.close(),
  };
}

const pick = <T>(items: readonly T[]): T => items[Math.floor(Math.random() * items.length)] as T;
const at = <T>(items: readonly T[], number: number): T => items[number % items.length] as T;
const chance = (onceIn: number): boolean => Math.random() * onceIn < 1;
