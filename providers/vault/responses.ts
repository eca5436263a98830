/**
 * What Vault answers, as far as it is used; what more there is, is left alone.
 * @module
 */
import * as v from "valibot";
import { VaultError } from "./errors.ts";

/** Vault trims the line end, without which certificates cannot be put one behind the other. */
const pem = v.pipe(
  v.string(),
  v.trim(),
  v.startsWith("-----BEGIN "),
  v.transform((text) => `${text}\n`),
);
const list = v.nullish(v.array(v.string()), []);
const warnings = { warnings: list };
const optionalId = v.pipe(
  v.nullish(v.string(), ""),
  v.transform((id) => (id === "" ? null : id)),
);
const text = v.nullish(v.string(), "");
const fields = v.record(v.string(), v.unknown());

export const CertificateAnswer = v.object({
  data: v.object({
    certificate: pem,
    ca_chain: v.nullish(v.array(pem), []),
    issuing_ca: v.nullish(v.string()),
  }),
  ...warnings,
});

export const LeafAnswer = v.object({ data: v.object({ certificate: pem }) });

export const RootAnswer = v.object({
  data: v.object({ certificate: pem, issuer_id: optionalId, key_id: optionalId }),
  ...warnings,
});

export const RequestAnswer = v.object({ data: v.object({ csr: pem, key_id: optionalId }) });

export const SetSignedAnswer = v.object({
  data: v.object({
    mapping: v.nullish(v.record(v.string(), v.string()), null),
    imported_issuers: list,
    existing_issuers: list,
  }),
});

export const IssuersAnswer = v.object({
  data: v.object({
    keys: list,
    key_info: v.nullish(
      v.record(
        v.string(),
        v.object({ issuer_name: text, key_id: text, is_default: v.nullish(v.boolean(), false) }),
      ),
      {},
    ),
  }),
});

export const IssuerAnswer = v.object({
  data: v.object({
    issuer_id: v.string(),
    issuer_name: text,
    key_id: text,
    certificate: pem,
    ca_chain: v.nullish(v.array(pem), []),
    leaf_not_after_behavior: text,
    usage: text,
  }),
});

export const KeysAnswer = v.object({
  data: v.object({
    keys: list,
    key_info: v.nullish(v.record(v.string(), v.object({ key_name: text })), {}),
  }),
});

export const IssuersConfigAnswer = v.object({
  data: v.object({ default: text, default_follows_latest_issuer: v.nullish(v.boolean(), false) }),
});

export const FieldsAnswer = v.object({ data: fields });

export const MountAnswer = v.object({
  data: v.object({
    type: v.string(),
    description: text,
    accessor: v.string(),
    uuid: optionalId,
    config: v.object({ max_lease_ttl: v.number(), default_lease_ttl: v.number() }),
  }),
});

export const CapabilitiesAnswer = v.object({ data: v.record(v.string(), v.array(v.string())) });

export const HealthAnswer = v.object({
  initialized: v.boolean(),
  sealed: v.boolean(),
  standby: v.boolean(),
  version: text,
  cluster_id: optionalId,
});

export const PlaintextAnswer = v.object({ data: v.object({ plaintext: v.string() }) });

export const CiphertextAnswer = v.object({ data: v.object({ ciphertext: v.string() }) });

/** @throws {VaultError} `answer`, naming the field and nothing of what it holds */
export function readAs<T>(call: string, schema: v.GenericSchema<unknown, T>, answer: unknown): T {
  const result = v.safeParse(schema, answer);
  if (result.success) return result.output;
  const field = v.getDotPath(result.issues[0]) ?? "the whole";
  throw new VaultError(
    "answer",
    `Vault: ${call}: its answer is not of the form it must have, at ${field}`,
  );
}
