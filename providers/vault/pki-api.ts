/**
 * The client of Vault: each call of the port as a path, a body and the form of its answer.
 * @module
 */
import * as v from "valibot";
import type {
  CaSubject,
  Fields,
  GeneratedRoot,
  Issued,
  Mount,
  RootRequest,
  VaultClient,
} from "./client.ts";
import { VaultError, type VaultReason } from "./errors.ts";
import { fileFaults } from "./files.ts";
import {
  CapabilitiesAnswer,
  CertificateAnswer,
  CiphertextAnswer,
  FieldsAnswer,
  HealthAnswer,
  IssuerAnswer,
  IssuersAnswer,
  IssuersConfigAnswer,
  KeysAnswer,
  LeafAnswer,
  MountAnswer,
  PlaintextAnswer,
  RequestAnswer,
  RootAnswer,
  readAs,
  SetSignedAnswer,
} from "./responses.ts";
import { createSession, type SessionOptions } from "./session.ts";

/** An RSA key of 4096 bits takes seconds, and on a busy server many. */
const KEY_TIMEOUT_MS = 60_000;

/** What may be set of an issuer. */
const ISSUER_FIELDS = [
  "issuer_name",
  "leaf_not_after_behavior",
  "manual_chain",
  "usage",
  "revocation_signature_algorithm",
  "issuing_certificates",
  "crl_distribution_points",
  "delta_crl_distribution_points",
  "ocsp_servers",
  "enable_aia_url_templating",
];

/** Makes a client. It logs in at the first call, and renews its token until it is closed. */
export function createVaultClient(options: SessionOptions): VaultClient {
  const session = createSession(options);
  const { namespace: home, tls } = options.connection;
  if (tls.skipVerify)
    options.log.warn(
      "Vault: its certificate is not verified (TLSSkipVerify): whoever stands between can read the token",
    );

  type Method = Parameters<typeof session.call>[0];
  const call = async <T>(
    method: Method,
    { namespace, path }: Mount,
    under: string,
    schema: v.GenericSchema<unknown, T>,
    body?: Fields,
    more: { readonly timeoutMs?: number; readonly repeatable?: boolean } = {},
  ): Promise<T> => {
    const full = `${path}/${under}`;
    return readAs(
      `${method} ${full}`,
      schema,
      await session.call(method, full, {
        namespace,
        ...(body === undefined ? {} : { body }),
        ...more,
      }),
    );
  };
  const act = async (
    method: "POST" | "DELETE",
    mount: Mount,
    under: string,
    body?: Fields,
  ): Promise<void> => {
    await call(method, mount, under, v.unknown(), body);
  };
  /** Null instead of an error for these reasons. */
  const unless = async <T>(
    reasons: readonly VaultReason[],
    answer: Promise<T>,
  ): Promise<T | null> => {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof VaultError && reasons.includes(error.reason)) return null;
      throw error;
    }
  };
  const sys = ({ namespace, path }: Mount): { mount: Mount; under: string } => ({
    mount: { path: "sys", namespace },
    under: `mounts/${path}`,
  });
  const raw = async (mount: Mount, under: string): Promise<string | null> => {
    const answer = await call("GET", mount, under, v.nullable(v.string("is no text")));
    if (answer === null || answer.trim() === "") return null;
    if (!answer.startsWith("-----BEGIN CERTIFICATE-----"))
      throw new VaultError(
        "mount_type",
        `Vault: GET ${mount.path}/${under}: it is no certificate: another type of engine is mounted there`,
      );
    return `${answer.trim()}\n`;
  };
  const issued = ({ data, warnings }: v.InferOutput<typeof CertificateAnswer>): Issued => ({
    certificate: data.certificate,
    chain: data.ca_chain.filter((other) => other !== data.certificate),
    warnings,
  });
  const newRoot = async (
    mount: Mount,
    under: string,
    request: RootRequest,
  ): Promise<GeneratedRoot> => {
    const body = {
      ...subjectOf(request),
      ...named("issuer_name", request.issuerName),
      ...(request.ttlMs === null ? {} : { ttl: seconds(request.ttlMs) }),
    };
    const { data, warnings } = await call("POST", mount, under, RootAnswer, body, {
      timeoutMs: KEY_TIMEOUT_MS,
    });
    return {
      certificate: data.certificate,
      chain: [],
      warnings,
      issuerId: data.issuer_id,
      keyId: data.key_id,
    };
  };

  return {
    async connect() {
      await session.token.get();
      await session.call("GET", "auth/token/lookup-self", { namespace: home });
    },
    get token() {
      return session.token.status;
    },
    get fileFaults() {
      return fileFaults(options.connection, options);
    },

    async health() {
      const answer = await session.call("GET", "sys/health", { namespace: "", anonymous: true });
      const { cluster_id: clusterId, ...health } = readAs("GET sys/health", HealthAnswer, answer);
      return { ...health, clusterId };
    },
    async capabilities(namespace, paths) {
      const { data } = await call(
        "POST",
        { path: "sys", namespace },
        "capabilities-self",
        CapabilitiesAnswer,
        { paths },
        { repeatable: true },
      );
      return new Map(Object.entries(data).filter(([path]) => paths.includes(path)));
    },

    async readMount(mount) {
      const { mount: at, under } = sys(mount);
      // Vault answers 400 for a path that nothing is mounted at.
      const answer = await unless(["refused", "not_found"], call("GET", at, under, MountAnswer));
      if (answer === null) return null;
      const { type, description, accessor, uuid, config } = answer.data;
      return {
        type,
        description,
        accessor,
        uuid,
        maxLeaseTtlMs: config.max_lease_ttl * 1000,
        defaultLeaseTtlMs: config.default_lease_ttl * 1000,
      };
    },
    async enableMount(mount, { type, description, maxLeaseTtlMs, defaultLeaseTtlMs }) {
      const { mount: at, under } = sys(mount);
      const config = {
        ...span("max_lease_ttl", maxLeaseTtlMs),
        ...span("default_lease_ttl", defaultLeaseTtlMs),
      };
      await act("POST", at, under, { type, description, config });
    },
    async disableMount(mount) {
      const { mount: at, under } = sys(mount);
      await act("DELETE", at, under);
    },

    readCa: (mount) => raw(mount, "ca/pem"),
    readCaChain: (mount) => raw(mount, "ca_chain"),
    generateRoot: (mount, request) => newRoot(mount, "root/generate/internal", request),
    rotateRoot: (mount, request) => newRoot(mount, "root/rotate/internal", request),
    async generateIntermediate(mount, subject) {
      const { data } = await call(
        "POST",
        mount,
        "intermediate/generate/internal",
        RequestAnswer,
        subjectOf(subject),
        {
          timeoutMs: KEY_TIMEOUT_MS,
        },
      );
      return { csr: data.csr, keyId: data.key_id };
    },
    async setSigned(mount, pem) {
      const answer = await call(
        "POST",
        mount,
        "intermediate/set-signed",
        v.nullable(SetSignedAnswer),
        { certificate: pem },
      );
      // Vault before 1.11 says nothing.
      if (answer === null) return { mapping: null, importedIssuers: [], existingIssuers: [] };
      const {
        mapping,
        imported_issuers: importedIssuers,
        existing_issuers: existingIssuers,
      } = answer.data;
      return { mapping, importedIssuers, existingIssuers };
    },
    async signIntermediate(mount, issuerId, { csr, ttlMs, maxPathLength }) {
      const under =
        issuerId === null
          ? "root/sign-intermediate"
          : `issuer/${segment(issuerId)}/sign-intermediate`;
      // Without use_csr_values the URI of the request is dropped.
      const body = {
        csr,
        use_csr_values: true,
        format: "pem",
        ttl: seconds(ttlMs),
        ...(maxPathLength === null ? {} : { max_path_length: maxPathLength }),
      };
      return issued(await call("POST", mount, under, CertificateAnswer, body));
    },
    async signSelfIssued(mount, issuerId, pem) {
      const under =
        issuerId === null
          ? "root/sign-self-issued"
          : `issuer/${segment(issuerId)}/sign-self-issued`;
      return issued(await call("POST", mount, under, CertificateAnswer, { certificate: pem }));
    },
    async signLeaf(
      mount,
      { role, issuerId, csr, uriSans, dnsNames = [], ipAddresses = [], ttlMs },
    ) {
      const under =
        issuerId === null
          ? `sign/${segment(role)}`
          : `issuer/${segment(issuerId)}/sign/${segment(role)}`;
      const names = {
        uri_sans: uriSans.join(","),
        ...(dnsNames.length === 0 ? {} : { alt_names: dnsNames.join(",") }),
        ...(ipAddresses.length === 0 ? {} : { ip_sans: ipAddresses.join(",") }),
      };
      const body = { csr, ...names, ttl: seconds(ttlMs), format: "pem" };
      return (await call("POST", mount, under, LeafAnswer, body)).data.certificate;
    },

    async listIssuers(mount) {
      // An empty listing is answered as 404.
      const answer = await unless(["not_found"], call("LIST", mount, "issuers", IssuersAnswer));
      const { keys, key_info: info } = answer?.data ?? { keys: [], key_info: {} };
      return keys.map((id) => {
        const {
          issuer_name: name = "",
          key_id: keyId = "",
          is_default: isDefault = false,
        } = info[id] ?? {};
        return { id, name, keyId, isDefault };
      });
    },
    async readIssuer(mount, ref) {
      const answer = await unlessGone(call("GET", mount, `issuer/${segment(ref)}`, IssuerAnswer));
      if (answer === null) return null;
      const { data } = answer;
      return {
        id: data.issuer_id,
        name: data.issuer_name,
        keyId: data.key_id,
        certificate: data.certificate,
        chain: data.ca_chain.filter((other) => other !== data.certificate),
        leafNotAfterBehavior: data.leaf_not_after_behavior,
        usage: data.usage,
      };
    },
    async updateIssuer(mount, ref, fields) {
      const under = `issuer/${segment(ref)}`;
      const { data } = await call("GET", mount, under, FieldsAnswer);
      // What is not sent would go back to its default; PATCH needs a capability of its own.
      const kept = ISSUER_FIELDS.filter(
        (name) => data[name] !== undefined && data[name] !== null && data[name] !== "",
      );
      await act("POST", mount, under, {
        ...Object.fromEntries(kept.map((name) => [name, data[name]])),
        ...fields,
      });
    },
    deleteIssuer: async (mount, ref) =>
      void (await unlessGone(act("DELETE", mount, `issuer/${segment(ref)}`))),
    async listKeys(mount) {
      const answer = await unless(["not_found"], call("LIST", mount, "keys", KeysAnswer));
      const { keys, key_info: info } = answer?.data ?? { keys: [], key_info: {} };
      return keys.map((id) => ({ id, name: info[id]?.key_name ?? "" }));
    },
    deleteKey: async (mount, ref) =>
      void (await unlessGone(act("DELETE", mount, `key/${segment(ref)}`))),
    async readIssuersConfig(mount) {
      const { data } = await call("GET", mount, "config/issuers", IssuersConfigAnswer);
      return { default: data.default, defaultFollowsLatest: data.default_follows_latest_issuer };
    },
    async setDefaultIssuer(mount, issuerId) {
      const { data } = await call("GET", mount, "config/issuers", IssuersConfigAnswer);
      await act("POST", mount, "config/issuers", {
        default_follows_latest_issuer: data.default_follows_latest_issuer,
        default: issuerId,
      });
    },
    async readRole(mount, role) {
      const answer = await unless(
        ["not_found"],
        call("GET", mount, `roles/${segment(role)}`, FieldsAnswer),
      );
      return answer?.data ?? null;
    },
    writeRole: (mount, role, fields) => act("POST", mount, `roles/${segment(role)}`, fields),
    deleteRole: async (mount, role) =>
      void (await unlessGone(act("DELETE", mount, `roles/${segment(role)}`))),

    async transitDecrypt(mount, key, ciphertext) {
      const answer = await call(
        "POST",
        mount,
        `decrypt/${segment(key)}`,
        PlaintextAnswer,
        { ciphertext },
        { repeatable: true },
      );
      return answer.data.plaintext;
    },
    async transitEncrypt(mount, key, plaintext) {
      const answer = await call(
        "POST",
        mount,
        `encrypt/${segment(key)}`,
        CiphertextAnswer,
        { plaintext },
        { repeatable: true },
      );
      return answer.data.ciphertext;
    },
    async transitRewrap(mount, key, ciphertext) {
      const answer = await call(
        "POST",
        mount,
        `rewrap/${segment(key)}`,
        CiphertextAnswer,
        { ciphertext },
        { repeatable: true },
      );
      return answer.data.ciphertext;
    },

    revoke: session.token.revoke,
    close: session.close,
  };

  /** What is not there any more; Vault says so in a 404, or in words of a 500. */
  async function unlessGone<T>(answer: Promise<T>): Promise<T | null> {
    try {
      return await answer;
    } catch (error) {
      if (
        error instanceof VaultError &&
        (error.reason === "not_found" || /unable to find PKI (?:issuer|key)/.test(error.message))
      )
        return null;
      throw error;
    }
  }
}

/** One segment of a path. @throws {VaultError} for what would be more */
function segment(text: string): string {
  if (!/^[A-Za-z0-9_.-]+$/.test(text) || /^\.+$/.test(text))
    throw new VaultError(
      "refused",
      `Vault: ${JSON.stringify(text.slice(0, 80))} cannot be part of a path`,
    );
  return text;
}

/** Whole seconds, which every version reads alike. */
function seconds(ms: number): string {
  return `${Math.max(1, Math.floor(ms / 1000))}s`;
}

function span(name: string, ms: number | null): Fields {
  return ms === null ? {} : { [name]: seconds(ms) };
}

function named(field: string, name: string | null): Fields {
  return name === null ? {} : { [field]: name };
}

function subjectOf({
  commonName,
  uriSans,
  keySpec,
  keyName,
}: Omit<CaSubject, "issuerName">): Fields {
  return {
    common_name: commonName,
    uri_sans: uriSans.join(","),
    key_type: keySpec.type,
    key_bits: keySpec.bits,
    // Otherwise the name would be taken for a DNS name too.
    exclude_cn_from_sans: true,
    ...named("key_name", keyName),
  };
}
