/**
 * The stored form of access control's records: JSON under a MAC over the record's kind, id, version and key, so that
 * whoever can write the store can neither make a record nor change one, nor put one in another's place. What it can do is
 * delete records, and put back an older one where no replica has seen the newer.
 * @module
 */
import * as v from "valibot";
import type { AuthMethod, BindingRule, Bootstrap, Denial, Policy, Token } from "../core/access.ts";
import type { RecordKind, StoredRecord } from "../core/access-store.ts";
import { utf8 } from "../core/bytes.ts";
import type { AccessKey } from "./access-key.ts";

/** What a kind of record holds. The access key is no such record: it is sealed, and read before all others. */
export interface Contents {
  bootstrap: Bootstrap;
  token: Token;
  policy: Policy;
  "auth-method": AuthMethod;
  "binding-rule": BindingRule;
  denial: Denial;
}
export type ContentKind = keyof Contents;

const texts = v.array(v.string());
const instant = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => new Date(text)),
);

const SCHEMAS: { readonly [K in ContentKind]: v.GenericSchema<unknown, Contents[K]> } = {
  bootstrap: v.strictObject({ accessorId: v.string() }),
  token: v.strictObject({
    accessorId: v.string(),
    description: v.string(),
    policies: texts,
    serviceIdentities: v.array(v.strictObject({ serviceName: v.string(), datacenters: texts })),
    nodeIdentities: v.array(v.strictObject({ nodeName: v.string(), datacenter: v.string() })),
    local: v.boolean(),
    createTime: instant,
    expirationTime: v.nullable(instant),
    authMethod: v.nullable(v.string()),
  }),
  policy: v.strictObject({ id: v.string(), name: v.string(), description: v.string(), rules: v.string(), datacenters: texts }),
  "auth-method": v.strictObject({
    name: v.string(),
    type: v.picklist(["jwt", "kubernetes"]),
    displayName: v.string(),
    description: v.string(),
    maxTokenTtlMs: v.number(),
    config: v.record(v.string(), v.unknown()),
  }),
  "binding-rule": v.strictObject({
    id: v.string(),
    description: v.string(),
    authMethod: v.string(),
    bindType: v.picklist(["service", "node"]),
    bindName: v.string(),
    selector: v.string(),
  }),
  denial: v.strictObject({
    id: v.string(),
    kind: v.picklist(["spiffe-id", "key-id", "serial"]),
    value: v.string(),
    reason: v.string(),
    createTime: instant,
    expirationTime: instant,
  }),
};

const SCHEMA = 1;
const Document = v.pipe(v.string(), v.parseJson(), v.strictObject({ schema: v.literal(SCHEMA), body: v.string(), mac: v.string() }));
const Json = v.pipe(v.string(), v.parseJson());

/** What a record is, as its MAC covers it. */
export interface Identity {
  readonly kind: RecordKind;
  readonly id: string;
  readonly version: number;
  readonly key: string | null;
}

/** The document of a record that is to be written. */
export async function encodeRecord<K extends ContentKind>(
  identity: Identity & { readonly kind: K },
  content: Contents[K],
  key: AccessKey,
): Promise<string> {
  const body = JSON.stringify(content);
  return JSON.stringify({ schema: SCHEMA, body, mac: await key.mac(macInput(identity, body)) } satisfies v.InferOutput<typeof Document>);
}

/** What a stored record holds; null where it is not ours, or not of this schema. */
export async function decodeRecord<K extends ContentKind>(
  record: StoredRecord & { readonly kind: K },
  key: AccessKey,
): Promise<Contents[K] | null> {
  const document = v.safeParse(Document, record.document);
  if (!document.success) return null;
  const { body, mac } = document.output;
  if (!(await key.verifyMac(macInput(record, body), mac))) return null;
  const json = v.safeParse(Json, body);
  const content = json.success ? v.safeParse(SCHEMAS[record.kind], json.output) : json;
  return content.success ? (content.output as Contents[K]) : null;
}

function macInput({ kind, id, version, key }: Identity, body: string) {
  return utf8(JSON.stringify(["meshca access", SCHEMA, kind, id, version, key, body]));
}
