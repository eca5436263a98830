/**
 * The stored form of ACL records: JSON under a MAC over the record's kind, id, version and key, so
 * that someone who can write the store can neither create nor change a record, nor move one to
 * another name. The set document (record-set.ts) detects deleted and older records.
 * @module
 */
import * as v from "valibot";
import type {
  AclPolicy,
  AclRole,
  AuthMethod,
  BindingRule,
  Bootstrap,
  DenylistEntry,
  Token,
  Tombstone,
} from "../core/acl/types.ts";
import { utf8 } from "../core/bytes.ts";
import type { RecordKind, StoredRecord } from "../core/ports/record-store.ts";
import { instant } from "../schemas.ts";
import type { AclKey } from "./acl-key.ts";
import { readRules } from "./rules.ts";

/** The content of each kind of record but the ACL key, which is encrypted and read first. */
export interface Contents {
  bootstrap: Bootstrap;
  token: Token;
  policy: AclPolicy;
  role: AclRole;
  "auth-method": AuthMethod;
  "binding-rule": BindingRule;
  denial: DenylistEntry;
  tombstone: Tombstone;
}
export type ContentKind = keyof Contents;

const texts = v.array(v.string());
const grants = {
  policies: texts,
  serviceIdentities: v.array(v.strictObject({ serviceName: v.string(), datacenters: texts })),
  nodeIdentities: v.array(v.strictObject({ nodeName: v.string(), datacenter: v.string() })),
  templatedPolicies: v.optional(
    v.array(v.strictObject({ templateName: v.string(), name: v.string(), datacenters: texts })),
  ),
};

export const DenylistEntrySchema = v.strictObject({
  id: v.string(),
  kind: v.picklist(["spiffe-id", "key-id", "serial"]),
  value: v.string(),
  reason: v.string(),
  createTime: instant,
  expirationTime: instant,
});

const SCHEMAS: { readonly [K in ContentKind]: v.GenericSchema<unknown, Contents[K]> } = {
  bootstrap: v.strictObject({ accessorId: v.string() }),
  token: v.strictObject({
    accessorId: v.string(),
    description: v.string(),
    ...grants,
    roles: v.optional(texts),
    local: v.boolean(),
    createTime: instant,
    expirationTime: v.nullable(instant),
    authMethod: v.nullable(v.string()),
    login: v.optional(
      v.strictObject({
        methodId: v.nullable(v.string()),
        methodVersion: v.number(),
        subject: v.string(),
      }),
    ),
  }),
  policy: v.strictObject({
    id: v.string(),
    name: v.string(),
    description: v.string(),
    rules: v.string(),
    datacenters: texts,
  }),
  role: v.strictObject({
    id: v.string(),
    name: v.string(),
    description: v.string(),
    ...grants,
  }),
  "auth-method": v.strictObject({
    name: v.string(),
    id: v.optional(v.string()),
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
    bindType: v.picklist(["service", "node", "role", "policy", "templated-policy"]),
    bindName: v.string(),
    bindVariable: v.optional(v.string()),
    selector: v.string(),
  }),
  denial: DenylistEntrySchema,
  tombstone: v.strictObject({
    kind: v.picklist(["token", "policy", "role", "auth-method", "binding-rule", "denial"]),
    id: v.string(),
    version: v.number(),
    expirationTime: instant,
  }),
};

/**
 * The schemas of records that this version reads, the oldest first. Schema 2 is written once every
 * live replica reads it: when the CA document records the ACL (`CaState.access`), which it keeps.
 * Schema 3 is written for what needs it only, after the CA document says so: see `needsSchema3`.
 */
export const RECORD_SCHEMAS = [1, 2, 3] as const;
export type RecordSchema = (typeof RECORD_SCHEMAS)[number];

/**
 * Whether a record has rights that versions before schema 3 do not know: roles, templated policies,
 * binding rules that give these or a policy, and the right to intermediates.
 */
export function needsSchema3<K extends ContentKind>(kind: K, content: Contents[K] | null): boolean {
  if (kind === "role") return true;
  if (content === null) return false;
  if ("rules" in content) return grantsIntermediates(content.rules);
  if ("bindType" in content) return content.bindType !== "service" && content.bindType !== "node";
  return (
    ("roles" in content && (content.roles ?? []).length > 0) ||
    ("templatedPolicies" in content && (content.templatedPolicies ?? []).length > 0)
  );
}

/** Whether rules name the resource that versions before refuse. @param rules a policy as it was checked. */
function grantsIntermediates(rules: string): boolean {
  return readRules(rules).some(({ resource }) => resource === "intermediate");
}

/** The fields that schema 3 adds; needsSchema3 names the records that are written with them. */
const ADDED_IN_3: readonly PropertyKey[] = ["roles", "templatedPolicies", "bindVariable"];

/** The fields that schema 2 adds: not written in schema 1, and optional when they are read. */
const ADDED_IN_2: { readonly [K in ContentKind]: readonly (keyof Contents[K])[] } = {
  bootstrap: [],
  token: ["login"],
  policy: [],
  role: [],
  "auth-method": ["id"],
  "binding-rule": [],
  denial: [],
  tombstone: [],
};

const Document = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({ schema: v.picklist(RECORD_SCHEMAS), body: v.string(), mac: v.string() }),
);
const Json = v.pipe(v.string(), v.parseJson());

/** The part of a record's name and version that its MAC covers. */
interface Identity {
  readonly kind: RecordKind;
  readonly id: string;
  readonly version: number;
  readonly key: string | null;
}

/**
 * The document of a record.
 * @param schema the newest one that every live replica reads.
 */
export async function encodeRecord<K extends ContentKind>(
  identity: Identity & { readonly kind: K },
  content: Contents[K],
  key: AclKey,
  schema: RecordSchema = RECORD_SCHEMAS[0],
): Promise<string> {
  const added: readonly PropertyKey[] = [
    ...(schema < 2 ? ADDED_IN_2[identity.kind] : []),
    ...(schema < 3 ? ADDED_IN_3 : []),
  ];
  const body = JSON.stringify(
    Object.fromEntries(Object.entries(content).filter(([name]) => !added.includes(name))),
  );
  const mac = await key.mac(macInput(schema, identity, body));
  return JSON.stringify({ schema, body, mac } satisfies v.InferOutput<typeof Document>);
}

/** The content of a stored record; null if its MAC is invalid or its schema unknown. */
export async function decodeRecord<K extends ContentKind>(
  record: StoredRecord & { readonly kind: K },
  key: AclKey,
): Promise<Contents[K] | null> {
  const document = v.safeParse(Document, record.document);
  if (!document.success) return null;
  const { schema, body, mac } = document.output;
  if (!(await key.verifyMac(macInput(schema, record, body), mac))) return null;
  const json = v.safeParse(Json, body);
  const content = json.success ? v.safeParse(SCHEMAS[record.kind], json.output) : json;
  return content.success ? (content.output as Contents[K]) : null;
}

function macInput(schema: RecordSchema, { kind, id, version, key }: Identity, body: string) {
  return utf8(JSON.stringify(["meshca access", schema, kind, id, version, key, body]));
}
