/**
 * Whether the ACL set that was read is trusted. Once the CA document records the ACL, the ACL key
 * must be the one that it names, the set document must be valid for the records, and the set must
 * follow the last one seen.
 * @module
 */
import { SealError, StoreError } from "../core/errors.ts";
import type { Changes, Mark } from "../core/ports/record-store.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { type AclKey, openAclKey } from "./acl-key.ts";
import type { CaDocument } from "./ca-document.ts";
import type { AclCache } from "./cache.ts";
import { decodeSet, decodeStop, type RecordSet, setRegression } from "./record-set.ts";

export interface TrustOptions {
  readonly sealer: Sealer;
  readonly ca: CaDocument;
  readonly cache: AclCache;
}

type Opened = NonNullable<AclCache["key"]>;
/** The set document of what was read, or why that is refused. */
type Verdict = { readonly refused: string } | { readonly set: RecordSet | null };

export class AclTrust {
  readonly #options: TrustOptions;
  readonly #cache: AclCache;

  constructor(options: TrustOptions) {
    this.#options = options;
    this.#cache = options.cache;
  }

  /**
   * The ACL key among the records that were read; a reason if it is not trusted.
   * @throws {SealError}
   */
  async keyOf({ records, gone, complete }: Changes): Promise<Opened | null | string> {
    const { sealer, ca } = this.#options;
    const { key } = this.#cache;
    const stored = records.find(({ kind }) => kind === "access-key");
    const lost =
      stored === undefined &&
      (complete
        ? records.length > 0 || key !== null
        : gone.some(({ kind }) => kind === "access-key"));
    if (stored === undefined && ca.acl() === null) {
      if (lost)
        throw new StoreError("state_corrupt", "Cannot trust the stored ACL: its key is missing");
      return key;
    }
    if (stored === undefined) {
      if (complete && records.length === 0)
        return "the store has no ACL records, but the CA document names an ACL key";
      return lost ? "the ACL key is missing" : key;
    }
    if (stored.document === key?.sealed.document)
      return this.#named({ sealed: stored, opened: key.opened });
    try {
      return await this.#named({
        sealed: stored,
        opened: await openAclKey(stored.document, sealer, ca.clusterId()),
      });
    } catch (error) {
      if (ca.acl() === null || !(error instanceof SealError) || error.code === "kek_unknown")
        throw error;
      return `the ACL key cannot be decrypted: ${error.message}`;
    }
  }

  /** The key, if it is the one that the CA document names. */
  async #named(key: Opened): Promise<Opened | string> {
    const isNamed = () => {
      const recorded = this.#options.ca.acl();
      return recorded === null || recorded.keyId === key.opened.id;
    };
    if (isNamed()) return key;
    await this.#options.ca.refresh().catch(() => undefined);
    return isNamed() ? key : "the ACL key is not the one that the CA document names";
  }

  async stopOf({ stopped }: Changes, key: AclKey): Promise<AclCache["stop"]> {
    if (stopped === null) return null;
    return stopped === this.#cache.stop?.text
      ? this.#cache.stop
      : { text: stopped, mark: await decodeStop(stopped, key) };
  }

  /** Whether a set is trusted. */
  async judge(
    changes: Changes,
    digest: bigint,
    key: AclKey | null,
    stop: Mark | null,
  ): Promise<Verdict> {
    const cache = this.#cache;
    const required = this.#options.ca.acl() !== null;
    if (key === null) return { set: null };
    const known =
      !changes.complete &&
      cache.refused === null &&
      changes.tip === cache.mark?.tip &&
      changes.set === cache.set;
    // Nothing was written since the last time; a stop mark of another replica may have seen more.
    const decoded = known
      ? { set: { ...cache.mark, ancestors: cache.ancestors } as RecordSet, authentic: true }
      : changes.set === null
        ? null
        : await decodeSet(changes.set, digest, key);
    const { index, tip } = changes;
    const isOfThis = decoded?.set.index === index && decoded.set.tip === tip;
    if (!required)
      return { set: decoded !== null && isOfThis && decoded.authentic ? decoded.set : null };
    if (changes.set === null)
      return { refused: "the set document is missing, and the CA document requires one" };
    if (decoded === null) return { refused: "the set document is malformed" };
    if (!isOfThis)
      return {
        refused: `the set document is of the write at index ${decoded.set.index}, but the last write is at index ${index}`,
      };
    if (!decoded.authentic)
      return {
        refused:
          "the MAC over all records is invalid: records were changed, added, removed or put back by someone without the ACL key",
      };
    const seen = [cache.seen, stop]
      .filter((one) => one !== null)
      .toSorted((a, b) => b.index - a.index);
    for (const one of seen) {
      const lost = setRegression(decoded.set, one);
      if (lost !== null) return { refused: `the store lost writes: ${lost}` };
    }
    return { set: decoded.set };
  }
}
