/**
 * The last-seen state of a replica in files of its data folder: in the stored form of the state,
 * with its keys encrypted and a MAC over the whole.
 * @module
 */
import * as v from "valibot";
import { type Bytes, utf8 } from "../core/bytes.ts";
import { SealError, StoreError } from "../core/errors.ts";
import type { AclLastSeenStore, LastSeen, LastSeenStore } from "../core/ports/last-seen.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";
import type { Mark } from "../core/ports/record-store.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { instant } from "../schemas.ts";
import type { Codec } from "./state-document.ts";

const Seen = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({
    term: v.number(),
    document: v.string(),
    // Absent in the files of earlier versions.
    confirmedAt: v.optional(v.nullable(instant), null),
  }),
);

const SeenAcl = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({
    clusterId: v.string(),
    index: v.pipe(v.number(), v.safeInteger()),
    tip: v.string(),
    mac: v.string(),
  }),
);

/** The last-seen state of the CA. */
export class LastSeenFile implements LastSeenStore {
  readonly #codec: Codec;
  readonly #file: PersistentFile;

  constructor(codec: Codec, file: PersistentFile) {
    this.#codec = codec;
    this.#file = file;
  }

  async load(): Promise<LastSeen | null> {
    const text = this.#file.read();
    if (text === null) return null;
    const what = `the last-seen state in ${this.#file.name}`;
    const seen = v.safeParse(Seen, text);
    if (!seen.success) throw corrupt(what, "the file is malformed");
    const { document, term, confirmedAt } = seen.output;
    const state = await this.#codec.decode(document).catch((error: unknown) => {
      throw unreadable(what, error);
    });
    return { state, term, confirmedAt };
  }

  async save({ state, term, confirmedAt }: LastSeen): Promise<void> {
    await this.#file.write(
      JSON.stringify({
        term,
        document: await this.#codec.encode(state),
        confirmedAt: confirmedAt?.toISOString() ?? null,
      }),
    );
  }
}

/** The last write of access control that this replica saw, under a MAC. */
export class AclLastSeenFile implements AclLastSeenStore {
  readonly #sealer: Pick<Sealer, "mac" | "verifyMac">;
  readonly #file: PersistentFile;
  readonly #datacenter: string | null;

  /** @param datacenter the one that the file is bound to. @default null: a deployment of one */
  constructor(
    sealer: Pick<Sealer, "mac" | "verifyMac">,
    file: PersistentFile,
    datacenter: string | null = null,
  ) {
    this.#sealer = sealer;
    this.#file = file;
    this.#datacenter = datacenter;
  }

  async load(clusterId: string): Promise<Mark | null> {
    const text = this.#file.read();
    if (text === null) return null;
    const what = `the last-seen write of the ACL in ${this.#file.name}`;
    const seen = v.safeParse(SeenAcl, text);
    if (!seen.success) throw corrupt(what, "the file is malformed");
    const { mac, ...rest } = seen.output;
    const isValid = (datacenter: string | null) =>
      this.#sealer.verifyMac(macInput(rest, datacenter), mac).catch((error: unknown) => {
        throw unreadable(what, error);
      });
    // A file from before there were several datacenters names none.
    if (!(await isValid(this.#datacenter)) && !(await isValid(null)))
      throw corrupt(what, "its MAC is invalid");
    const { index, tip } = rest;
    return rest.clusterId === clusterId ? { index, tip } : null;
  }

  async save(clusterId: string, { index, tip }: Mark): Promise<void> {
    const mac = await this.#sealer.mac(macInput({ clusterId, index, tip }, this.#datacenter));
    await this.#file.write(
      JSON.stringify({ clusterId, index, tip, mac } satisfies v.InferOutput<typeof SeenAcl>),
    );
  }
}

function macInput(
  { clusterId, index, tip }: Mark & { readonly clusterId: string },
  datacenter: string | null,
): Bytes {
  const head = datacenter === null ? [1, clusterId] : [2, clusterId, datacenter];
  return utf8(JSON.stringify(["meshca access seen", ...head, index, tip]));
}

const text = (what: string, reason: string, wayOut: string) =>
  `Cannot read ${what}: ${reason}. ${wayOut} to trust the store as it is`;

function corrupt(what: string, reason: string): StoreError {
  return new StoreError("state_corrupt", text(what, reason, "Remove the file"));
}

/** Why a file whose form is right cannot be trusted or decrypted, with the way out. */
function unreadable(what: string, error: unknown): unknown {
  if (error instanceof SealError) {
    const wayOut = "Add the key-encryption key, or remove the file";
    return new SealError(error.code, text(what, error.message, wayOut), { cause: error });
  }
  if (error instanceof StoreError)
    return new StoreError(error.code, text(what, error.message, "Remove the file"), {
      cause: error,
    });
  return error;
}
