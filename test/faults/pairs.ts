/**
 * Whether any two peers whose leaves are alive would verify each other: every leaf with its chain
 * under every root set that the other side had fetched since it got its own leaf.
 * @module
 */
import { readPem } from "../../src/core/pem.ts";
import { type Certificate, readCertificate } from "../../src/core/x509/certificate.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import type { History, Leaf, RootsRead } from "./history.ts";

interface ReadLeaf extends Leaf {
  readonly own: Certificate;
  readonly chain: readonly Certificate[];
}

/** The certificates in a PEM text, in its order. */
export function certificatesOf(pem: string): Certificate[] {
  return readPem(pem).map(({ bytes }) => readCertificate(bytes));
}

/**
 * In words, each leaf that a peer could not have verified. The same leaf under the same roots is
 * tried once.
 */
export async function brokenPairs({
  reads,
  leaves,
}: Pick<History, "reads" | "leaves">): Promise<string[]> {
  const all = leaves.map((leaf): ReadLeaf => {
    const [own, ...chain] = certificatesOf(leaf.pem);
    return { ...leaf, own: own as Certificate, chain };
  });
  const now = new Date();
  const tried = new Set<string>();
  const broken: string[] = [];
  for (const read of reads)
    for (const leaf of all) {
      const key = `${setName(read)} ${leaf.own.id}`;
      if (
        tried.has(key) ||
        !all.some((mine) => mine.client === read.client && meets(mine, leaf, read, now))
      )
        continue;
      tried.add(key);
      if (!(await verifies(leaf, read, now)))
        broken.push(
          `${leaf.client}'s leaf from ${leaf.replica} does not verify under the roots that ${read.client} had of ${read.replica} at index ${read.index}`,
        );
    }
  return broken;
}

/** Whether the fetched roots were used for the other's leaf while both leaves were alive. */
function meets(mine: ReadLeaf, other: ReadLeaf, read: RootsRead, now: Date): boolean {
  const alive = (leaf: ReadLeaf) => leaf.own.notBefore <= now && leaf.own.notAfter > now;
  return read.end >= mine.begin && alive(mine) && alive(other);
}

function setName({ roots }: RootsRead): string {
  return roots
    .map(({ id }) => id)
    .toSorted()
    .join();
}

async function verifies(
  { own, chain }: ReadLeaf,
  { roots }: RootsRead,
  at: Date,
): Promise<boolean> {
  for (const { pem } of roots) {
    const [root] = certificatesOf(pem);
    if (root !== undefined && (await findPath(own, chain, root, at)) !== null) return true;
  }
  return false;
}
