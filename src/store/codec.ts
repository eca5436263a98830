/**
 * The stored form of the state: JSON with a schema number and a MAC. Certificates are base64 DER in it, instants are
 * ISO 8601, keys are sealed text. The MAC covers the cluster id, the commit id, the index and the body as the octets
 * they are stored as.
 * @module
 */
import * as v from "valibot";
import { base64, fromBase64, utf8 } from "../core/bytes.ts";
import { OLDEST_SCHEMA, SCHEMA } from "../core/ca/state.ts";
import { FormatError, StoreError } from "../core/errors.ts";
import type { Sealer } from "../core/sealer.ts";
import type { StateCodec } from "../core/store.ts";
import { type Certificate, readCertificate } from "../core/x509/certificate.ts";

export interface Codec extends StateCodec {
  /** The id of the key-encryption key under which a document has its MAC; it is not checked. */
  kekOf(document: string): string;
}

const index = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const instant = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => new Date(text)),
);
const certificate = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }): Certificate => {
    try {
      const der = fromBase64(dataset.value);
      if (der !== null) return readCertificate(der);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
    }
    addIssue({ message: "is not a certificate" });
    return NEVER;
  }),
);
const configMap = v.nullable(v.record(v.string(), v.unknown()));
const providerState = v.record(v.string(), v.string());

const OldestBody = v.strictObject({
  config: v.strictObject({
    provider: v.string(),
    config: configMap,
    forceWithoutCrossSigning: v.boolean(),
    createIndex: index,
    modifyIndex: index,
  }),
  roots: v.array(
    v.strictObject({
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
    }),
  ),
  provider: v.strictObject({
    active: providerState,
    retired: v.record(v.string(), v.strictObject({ provider: v.string(), config: configMap, state: providerState })),
  }),
});

const Body = v.strictObject({ ...OldestBody.entries, ancestors: v.array(v.string()) });

const Document = v.strictObject({
  schema: v.picklist([OLDEST_SCHEMA, SCHEMA]),
  clusterId: v.string(),
  commitId: v.string(),
  index,
  body: v.string(),
  mac: v.string(),
});

/** Makes the codec over the sealer, which has the MAC keys. */
export function createCodec(sealer: Pick<Sealer, "mac" | "verifyMac">): Codec {
  return {
    async encode(state) {
      const { schema, clusterId, commitId, index, ancestors, config, roots, provider } = state;
      const body = JSON.stringify({
        ...(schema === OLDEST_SCHEMA ? {} : { ancestors }),
        config,
        roots: roots.map((root) => ({
          ...root,
          certificate: base64(root.certificate.der),
          intermediates: root.intermediates.map(({ der }) => base64(der)),
        })),
        provider,
      });
      const mac = await sealer.mac(macInput(schema, clusterId, commitId, index, body));
      return JSON.stringify({ schema, clusterId, commitId, index, body, mac } satisfies v.InferInput<typeof Document>);
    },
    async decode(document) {
      const outer = parseJson(document);
      if (typeof outer === "object" && outer !== null && "schema" in outer && typeof outer.schema === "number" && outer.schema > SCHEMA)
        throw new StoreError(
          "schema_unknown",
          `Cannot read the stored state: it has schema ${outer.schema}, this version of meshca knows up to ${SCHEMA}; start the newer version that wrote it`,
        );
      const read = v.safeParse(Document, outer);
      if (!read.success) throw corrupt("it is not a document of this schema");
      const { schema, clusterId, commitId, index, body, mac } = read.output;
      if (!(await sealer.verifyMac(macInput(schema, clusterId, commitId, index, body), mac))) throw corrupt("its MAC is wrong");
      const inner = v.safeParse(schema === OLDEST_SCHEMA ? OldestBody : Body, parseJson(body));
      if (!inner.success) throw corrupt(`its body is malformed at ${v.getDotPath(inner.issues[0]) ?? "the top"}`);
      return { schema, clusterId, commitId, index, ancestors: [], ...inner.output };
    },
    kekOf(document) {
      const outer = v.safeParse(v.object({ mac: v.string() }), parseJson(document));
      return outer.success ? (outer.output.mac.split(":")[0] ?? "") : "";
    },
  };
}

function macInput(...fields: readonly (string | number)[]) {
  return utf8(JSON.stringify(fields));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw corrupt("it is not JSON");
  }
}

function corrupt(reason: string): StoreError {
  return new StoreError("state_corrupt", `Cannot trust the stored state: ${reason}`);
}
