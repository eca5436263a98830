/**
 * The responses of Vault, as far as they are used.
 * @module
 */
import * as v from "valibot";
import { readOrNull } from "../../src/core/errors.ts";
import { readPem } from "../../src/core/pem.ts";
import { type Certificate, readCertificate } from "../../src/core/x509/certificate.ts";
import { VaultError } from "./errors.ts";

/** Vault trims the line end, without which certificates cannot be concatenated. */
const pem = v.pipe(
  v.string(),
  v.trim(),
  v.startsWith("-----BEGIN "),
  v.transform((text) => `${text}\n`),
);
const list = v.nullish(v.array(v.string()), []);
const id = v.pipe(v.string(), v.nonEmpty());
const text = v.nullish(v.string(), "");
const fields = v.record(v.string(), v.unknown());

export const CertificateResponse = v.object({ data: v.object({ certificate: pem }) });

/** Vault before 1.11 has no ids. */
const optionalId = v.pipe(
  v.nullish(v.string(), ""),
  v.transform((value) => (value === "" ? null : value)),
);

export const RootResponse = v.object({
  data: v.object({ certificate: pem, issuer_id: optionalId }),
});

export const RequestResponse = v.object({ data: v.object({ csr: pem, key_id: optionalId }) });

/** `mapping`: issuer id to the id of its key, which is empty if Vault has none. */
export const SetSignedResponse = v.object({
  data: v.object({ mapping: v.nullish(v.record(v.string(), v.string()), null) }),
});

export const IssuersResponse = v.object({
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

export const FieldsResponse = v.object({ data: fields });

export const IssuersConfigResponse = v.object({
  data: v.object({ default_follows_latest_issuer: v.nullish(v.boolean(), false) }),
});

export const MountResponse = v.object({
  data: v.object({
    type: v.string(),
    description: text,
    accessor: v.string(),
    config: v.object({ max_lease_ttl: v.number() }),
  }),
});

export const CapabilitiesResponse = v.object({ data: v.record(v.string(), v.array(v.string())) });

export const HealthResponse = v.object({
  initialized: v.boolean(),
  sealed: v.boolean(),
  cluster_id: optionalId,
});

export const PlaintextResponse = v.object({ data: v.object({ plaintext: v.string() }) });

export const CiphertextResponse = v.object({ data: v.object({ ciphertext: v.string() }) });

export const LoginResponse = v.object({
  auth: v.object({ client_token: id, lease_duration: v.number(), renewable: v.boolean() }),
});

export const LookupResponse = v.object({
  data: v.object({
    ttl: v.number(),
    creation_ttl: v.nullish(v.number(), 0),
    period: v.nullish(v.number(), 0),
    renewable: v.optional(v.boolean(), false),
    expire_time: v.nullish(v.string()),
  }),
});

/**
 * Reads a response.
 * @param call method and path.
 * @throws {VaultError} `malformed_response`, naming the field and nothing of what it holds
 */
export function readAs<T>(call: string, schema: v.GenericSchema<unknown, T>, response: unknown): T {
  const result = v.safeParse(schema, response);
  if (result.success) return result.output;
  const field = v.getDotPath(result.issues[0]);
  throw new VaultError(
    "malformed_response",
    `Vault: ${call}: unexpected response format${field === null ? "" : ` at ${field}`}; check that the address is Vault's and the mount of the right type`,
  );
}

/** The first certificate of a PEM that Vault signed. @param what is signed. @throws {VaultError} */
export function readFirst(pem: string, what: string): Certificate {
  const first = readOrNull(() => {
    const [block] = readPem(pem);
    return block === undefined ? null : readCertificate(block.bytes);
  });
  if (first !== null) return first;
  throw new VaultError("malformed_response", `Vault: the ${what} that it signed is unreadable`);
}

/** Vault's warnings of a response. */
export function warningsOf(response: unknown): readonly string[] {
  const result = v.safeParse(v.object({ warnings: v.array(v.string()) }), response);
  return result.success ? result.output.warnings : [];
}
