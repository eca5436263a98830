/**
 * The stored form of the state: JSON with a schema number and a MAC. Certificates are base64 DER in
 * it, instants are ISO 8601, keys are sealed text. The MAC covers the cluster id, the commit id,
 * the index and the body as the octets they are stored as.
 * @module
 */
import * as v from "valibot";
import { base64, utf8 } from "../core/bytes.ts";
import { withDerivedIssuers } from "../core/ca/leaf-issuers.ts";
import { InvariantError, StoreError } from "../core/errors.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import type { StateCodec } from "../core/ports/store.ts";
import { defaultTrustDomain } from "../core/spiffe/trust-domain.ts";
import {
  type CaState,
  leastSchema,
  type RootEntry,
  SCHEMA,
  SCHEMAS,
  type Schema,
} from "../core/state.ts";
import { certificate, instant } from "../schemas.ts";

export interface Codec extends StateCodec {
  /** The id of the key-encryption key under which a document has its MAC; it is not checked. */
  kekOf(document: string): string;
}

const index = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const configMap = v.nullable(v.record(v.string(), v.unknown()));
const providerState = v.record(v.string(), v.string());

const rootEntries = {
  id: v.string(),
  name: v.string(),
  certificate,
  intermediates: v.array(certificate),
  status: v.picklist(["active", "retired"]),
  since: instant,
  rotatedOutAt: v.nullable(instant),
  forcedOut: v.boolean(),
  signingKeyId: v.string(),
  leafTtlMaxMs: v.number(),
  externalTrustDomain: v.string(),
  createIndex: index,
  modifyIndex: index,
};

/** Stored as `forcedOut` since schema 1. */
const withAbandoned = <T extends { readonly forcedOut: boolean }>({ forcedOut, ...root }: T) => ({
  ...root,
  abandoned: forcedOut,
});

const Body1 = v.strictObject({
  config: v.strictObject({
    provider: v.string(),
    config: configMap,
    forceWithoutCrossSigning: v.boolean(),
    createIndex: index,
    modifyIndex: index,
  }),
  roots: v.array(v.pipe(v.strictObject(rootEntries), v.transform(withAbandoned))),
  provider: v.strictObject({
    active: providerState,
    retired: v.record(
      v.string(),
      v.strictObject({ provider: v.string(), config: configMap, state: providerState }),
    ),
  }),
});

const Body2 = v.strictObject({ ...Body1.entries, ancestors: v.array(v.string()) });

const leafIssuer = v.strictObject({
  certificate,
  keyId: v.string(),
  leavesUntil: v.nullable(instant),
});

const accessEntries = { keyId: v.string(), bootstrapAccessorId: v.nullable(v.string()) };

const Body3 = v.strictObject({
  ...Body2.entries,
  access: v.nullable(v.strictObject(accessEntries)),
  roots: v.array(
    v.pipe(
      v.strictObject({ ...rootEntries, leafIssuers: v.array(leafIssuer) }),
      v.transform(withAbandoned),
    ),
  ),
});

/** Besides, configurations may have fields that versions before do not know. */
const Body4 = v.strictObject({ ...Body3.entries, trustDomain: v.optional(v.string()) });

const Body5 = v.strictObject({
  ...Body4.entries,
  access: v.nullable(v.strictObject({ ...accessEntries, recordSchema: v.optional(v.literal(3)) })),
});

const issuedIntermediate = v.strictObject({
  serial: v.string(),
  keyId: v.string(),
  rootId: v.string(),
  notBefore: instant,
  notAfter: instant,
  accessor: v.nullable(v.string()),
  address: v.nullable(v.string()),
});

const Body6 = v.strictObject({
  ...Body5.entries,
  datacenter: v.nullable(v.string()),
  primary: v.nullable(
    v.pipe(
      v.strictObject({ datacenter: v.string(), index }),
      v.transform((primary) => ({ ...primary, leafTtlMs: null, renewAt: null })),
    ),
  ),
  intermediates: v.array(issuedIntermediate),
});

const Body7 = v.strictObject({
  ...Body6.entries,
  primary: v.nullable(
    v.strictObject({
      ...{ datacenter: v.string(), index },
      leafTtlMs: v.nullable(v.number()),
      renewAt: v.nullable(instant),
    }),
  ),
  promotions: index,
  otherPrimary: v.nullable(
    v.strictObject({ datacenter: v.string(), promotions: index, by: v.string() }),
  ),
  roots: v.array(
    v.pipe(
      v.strictObject({
        ...rootEntries,
        status: v.picklist(["active", "retired", "prepared"]),
        lost: v.optional(v.boolean()),
        leafIssuers: v.array(leafIssuer),
      }),
      v.transform(withAbandoned),
    ),
  ),
  provider: v.strictObject({
    ...Body6.entries.provider.entries,
    prepared: v.nullable(
      v.strictObject({
        rootId: v.string(),
        activateAt: instant,
        provider: v.string(),
        config: configMap,
        state: providerState,
      }),
    ),
  }),
});

const Body8 = v.strictObject({
  ...Body7.entries,
  dropped: v.array(
    v.strictObject({
      id: v.string(),
      keyId: v.string(),
      notAfter: instant,
      at: instant,
      through: v.array(v.strictObject({ rootId: v.string(), until: instant })),
    }),
  ),
});

type Since6 = Pick<CaState, "datacenter" | "primary" | "intermediates">;
type Contents = Pick<CaState, "ancestors" | "access" | "config" | "roots"> & {
  /** Absent: that of the cluster id. */
  readonly trustDomain?: string | undefined;
  readonly provider: Omit<CaState["provider"], "prepared"> & Partial<CaState["provider"]>;
} & Partial<Since6 & Since7 & Since8>;

type Since7 = Pick<CaState, "promotions" | "otherPrimary">;
type Since8 = Pick<CaState, "dropped">;

const BEFORE_8: Since6 & Since7 & Since8 = {
  datacenter: null,
  primary: null,
  intermediates: [],
  promotions: 0,
  otherPrimary: null,
  dropped: [],
};

/** How the body of each schema becomes a state. */
const upcasts = {
  1: v.pipe(
    Body1,
    v.transform((body) => fromSchema2({ ...body, ancestors: [] })),
  ),
  2: v.pipe(Body2, v.transform(fromSchema2)),
  3: Body3,
  4: Body4,
  5: Body5,
  6: Body6,
  7: Body7,
  8: Body8,
} as const satisfies Record<Schema, v.GenericSchema<unknown, Contents>>;

function fromSchema2(body: v.InferOutput<typeof Body2>): Contents {
  return { ...body, access: null, roots: withDerivedIssuers(body.roots) };
}

const Document = v.strictObject({
  schema: v.picklist(SCHEMAS),
  clusterId: v.string(),
  commitId: v.string(),
  index,
  body: v.string(),
  mac: v.string(),
});

/** A document of a schema above those known here. */
const NewerDocument = v.object({ schema: v.pipe(v.number(), v.gtValue(SCHEMA)) });

type Macs = Pick<Sealer, "mac" | "verifyMac">;

/**
 * @param sealer has the MAC keys.
 * @param datacenter the only one whose documents are read, besides those that name none, if the
 * deployment has several; null: any. @default null
 */
export function createCodec(sealer: Macs, datacenter: DatacenterRole | null = null): Codec {
  return new DocumentCodec(sealer, datacenter);
}

/** A datacenter, and whether it follows another one. */
export interface DatacenterRole {
  readonly name: string;
  readonly isSecondary: boolean;
}

/** @throws {StoreError} `datacenter_differs` */
function requireOwn({ datacenter }: CaState, { name, isSecondary }: DatacenterRole): void {
  // A secondary never wrote a document without its name.
  if (datacenter === name || (datacenter === null && !isSecondary)) return;
  const of = datacenter === null ? "names no datacenter" : `is of datacenter ${datacenter}`;
  throw new StoreError(
    "datacenter_differs",
    `Cannot use the stored CA state: it ${of}, and this is ${name}`,
  );
}

class DocumentCodec implements Codec {
  readonly #sealer: Macs;
  readonly #datacenter: DatacenterRole | null;
  /** The last document that was decoded: replicas read an unchanged one again and again. */
  #last: { readonly document: string; readonly state: CaState } | null = null;

  constructor(sealer: Macs, datacenter: DatacenterRole | null) {
    this.#sealer = sealer;
    this.#datacenter = datacenter;
  }

  async encode(state: CaState): Promise<string> {
    const { schema, clusterId, trustDomain, commitId, index } = state;
    const { ancestors, access, config, roots, provider } = state;
    const { datacenter, primary, intermediates, promotions, otherPrimary, dropped } = state;
    const since6: Since6 = { datacenter, primary, intermediates };
    const { prepared, ...keys } = provider;
    if (schema < leastSchema(state))
      throw new InvariantError(`Schema ${schema} cannot hold this state`);
    const body = JSON.stringify({
      ...(schema < 2 ? {} : { ancestors }),
      ...(schema < 3 ? {} : { access }),
      ...(schema < 4 ? {} : { trustDomain }),
      ...(schema < 6 ? {} : { ...since6, primary: storedPrimary(primary, schema) }),
      ...(schema < 7 ? {} : { promotions, otherPrimary }),
      ...(schema < 8 ? {} : { dropped }),
      config,
      roots: roots.map((entry) => storedRoot(entry, schema)),
      provider: { ...keys, ...(schema < 7 ? {} : { prepared }) },
    });
    const mac = await this.#sealer.mac(macInput(schema, clusterId, commitId, index, body));
    const head = { schema, clusterId, commitId, index };
    return JSON.stringify({ ...head, body, mac } satisfies v.InferInput<typeof Document>);
  }

  async decode(document: string): Promise<CaState> {
    if (document === this.#last?.document) return this.#last.state;
    const state = await this.decodeAny(document);
    if (this.#datacenter !== null) requireOwn(state, this.#datacenter);
    this.#last = { document, state };
    return state;
  }

  async decodeAny(document: string): Promise<CaState> {
    const outer = parseJson(document);
    const newer = v.safeParse(NewerDocument, outer);
    if (newer.success)
      throw new StoreError(
        "schema_unknown",
        `Cannot read the stored state: it has schema ${newer.output.schema}, this version of meshca knows up to ${SCHEMA}; start the newer version that wrote it`,
      );
    const read = v.safeParse(Document, outer);
    if (!read.success) throw corrupt("its document does not have the fields of a state document");
    const { schema, clusterId, commitId, index, body, mac } = read.output;
    const input = macInput(schema, clusterId, commitId, index, body);
    if (!(await this.#sealer.verifyMac(input, mac)))
      throw corrupt("the MAC of its document is invalid");
    const inner = v.safeParse(upcasts[schema], parseJson(body));
    if (!inner.success) {
      const path = v.getDotPath(inner.issues[0]) ?? "the top";
      throw corrupt(`the body of its document is malformed at ${path}`);
    }
    const contents: Contents = inner.output;
    const trustDomain = contents.trustDomain ?? defaultTrustDomain(clusterId);
    const head = { schema, clusterId, trustDomain, commitId, index };
    const provider = { prepared: null, ...contents.provider };
    return { ...BEFORE_8, ...contents, ...head, provider };
  }

  kekOf(document: string): string {
    const outer = v.safeParse(v.object({ mac: v.string() }), parseJson(document));
    return outer.success ? (outer.output.mac.split(":")[0] ?? "") : "";
  }
}

/**
 * The datacenter that a document names, without a check of its MAC; null if it names none, or cannot
 * be read.
 */
export function claimedDatacenter(document: string): string | null {
  try {
    const { body } = v.parse(v.object({ body: v.string() }), parseJson(document));
    return v.parse(v.object({ datacenter: v.string() }), parseJson(body)).datacenter;
  } catch {
    return null;
  }
}

function storedPrimary(primary: CaState["primary"], schema: Schema) {
  if (primary === null || schema >= 7) return primary;
  const { datacenter, index: known } = primary;
  return { datacenter, index: known };
}

function storedRoot({ leafIssuers, abandoned, lost, ...root }: RootEntry, schema: Schema) {
  return {
    ...root,
    ...(schema < 7 || lost !== true ? {} : { lost }),
    forcedOut: abandoned,
    certificate: base64(root.certificate.der),
    intermediates: root.intermediates.map(({ der }) => base64(der)),
    ...(schema < 3
      ? {}
      : {
          leafIssuers: leafIssuers.map((issuer) => ({
            ...issuer,
            certificate: base64(issuer.certificate.der),
          })),
        }),
  };
}

function macInput(...fields: readonly (string | number)[]) {
  return utf8(JSON.stringify(fields));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw corrupt("its document is not JSON");
  }
}

function corrupt(reason: string): StoreError {
  return new StoreError("state_corrupt", `Cannot trust the stored CA state: ${reason}`);
}
