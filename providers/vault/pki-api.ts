/**
 * The calls to Vault's mounts and PKI engines that the provider makes, one method each.
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "../../src/core/errors.ts";
import type { CaKeySpec } from "../../src/core/x509/keys.ts";
import { type CallOptions, segment, VaultClient } from "./client.ts";
import type { Mount } from "./config.ts";
import { failedBy, nullIf, VaultError } from "./errors.ts";
import type { Verb } from "./node-vault.ts";
import {
  CertificateResponse,
  FieldsResponse,
  IssuersConfigResponse,
  IssuersResponse,
  MountResponse,
  RequestResponse,
  RootResponse,
  SetSignedResponse,
} from "./responses.ts";

/** An RSA key of 4096 bits takes seconds, and on a busy server many. */
const KEY_TIMEOUT_MS = 60_000;

/** Fields of an issuer that an update has to send along, since they would return to their defaults. */
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

/** The fields of a role or an issuer, by Vault's names. */
export type Fields = Readonly<Record<string, unknown>>;

export interface MountInfo {
  /** `pki` for ours. */
  readonly type: string;
  readonly description: string;
  /** Identifies this mount: another one at the same path has another. */
  readonly accessor: string;
  /** Zero: the limit of the server. */
  readonly maxLeaseTtlMs: number;
}

interface PkiMountRequest {
  readonly description: string;
  readonly maxLeaseTtlMs: number;
  /** Null: the default of the server. */
  readonly defaultLeaseTtlMs: number | null;
}

/** The names in a CA certificate or its request. */
interface CaSubject {
  readonly commonName: string;
  readonly uri: string;
  readonly keySpec: CaKeySpec;
  /** The name of the key in Vault, by which it is recognized after a crash. */
  readonly keyName: string;
}

export interface RootRequest extends CaSubject {
  readonly issuerName: string;
  readonly ttlMs: number;
}

export interface IssuerListing {
  readonly id: string;
  readonly name: string;
  /** Empty: Vault has no key for it. */
  readonly keyId: string;
  readonly isDefault: boolean;
}

interface SignLeafRequest {
  readonly role: string;
  readonly issuerId: string;
  readonly csr: string;
  readonly uri: string;
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly ttlMs: number;
}

/** Certificates and requests are PEM that ends with a newline. */
export class PkiApi extends VaultClient {
  /** Null if nothing is mounted. */
  async readMount(mount: Mount): Promise<MountInfo | null> {
    // Vault answers 400 for a path at which nothing is mounted.
    const call = this.call("read", sysMount(mount), MountResponse);
    const response = await nullIf(call, "refused", "not_found");
    if (response === null) return null;
    const { type, description, accessor, config } = response.data;
    return { type, description, accessor, maxLeaseTtlMs: config.max_lease_ttl * 1000 };
  }

  /** @throws {VaultError} `refused` if something is mounted already */
  async enablePki(mount: Mount, request: PkiMountRequest): Promise<void> {
    const { description, maxLeaseTtlMs, defaultLeaseTtlMs } = request;
    const config = {
      max_lease_ttl: seconds(maxLeaseTtlMs),
      ...(defaultLeaseTtlMs === null ? {} : { default_lease_ttl: seconds(defaultLeaseTtlMs) }),
    };
    await this.call("write", sysMount(mount), v.unknown(), {
      body: { type: "pki", description, config },
    });
  }

  /** Deletes an engine with all its contents. Succeeds if nothing is mounted. */
  async disableMount(mount: Mount): Promise<void> {
    await this.call("delete", sysMount(mount), v.unknown());
  }

  /**
   * The default issuer's certificate; null if there is none. It needs no permission.
   * @throws {VaultError} `mount_missing`, or `denied` for a token without a rule for the path
   */
  readCa(mount: Mount): Promise<string | null> {
    return this.#readPem(mount, "ca/pem");
  }

  /** The default issuer's chain, its own certificate first; null if there is none. */
  readCaChain(mount: Mount): Promise<string | null> {
    return this.#readPem(mount, "ca_chain");
  }

  /**
   * Creates a root whose key never leaves Vault.
   * @param beside whether there is another one, which stays the default.
   * @throws {ConfigError} from Vault before 1.11
   */
  async generateRoot(
    mount: Mount,
    request: RootRequest,
    beside: boolean,
  ): Promise<{ certificate: string; issuerId: string }> {
    const path = beside ? "root/rotate/internal" : "root/generate/internal";
    const { data } = await this.#pki("write", mount, path, RootResponse, {
      body: {
        ...subjectOf(request),
        issuer_name: request.issuerName,
        ttl: seconds(request.ttlMs),
      },
      timeoutMs: KEY_TIMEOUT_MS,
    });
    return { certificate: data.certificate, issuerId: data.issuer_id ?? tooOld() };
  }

  /**
   * Creates a key that never leaves Vault, and its request.
   * @throws {ConfigError} from Vault before 1.11
   */
  async generateIntermediate(
    mount: Mount,
    subject: CaSubject,
  ): Promise<{ csr: string; keyId: string }> {
    const path = "intermediate/generate/internal";
    const { data } = await this.#pki("write", mount, path, RequestResponse, {
      body: subjectOf(subject),
      timeoutMs: KEY_TIMEOUT_MS,
    });
    return { csr: data.csr, keyId: data.key_id ?? tooOld() };
  }

  /**
   * Imports the certificate for a request of this mount.
   * @returns issuer id to key id, which is empty without a key.
   * @throws {ConfigError} from Vault before 1.11
   */
  async setSigned(mount: Mount, pem: string): Promise<Readonly<Record<string, string>>> {
    const schema = v.nullable(SetSignedResponse);
    const response = await this.#pki("write", mount, "intermediate/set-signed", schema, {
      body: { certificate: pem },
    });
    return response?.data.mapping ?? tooOld();
  }

  /** Signs a CA certificate with the names of its request, below which only leaves are allowed. */
  async signIntermediate(
    mount: Mount,
    issuerId: string,
    csr: string,
    ttlMs: number,
  ): Promise<string> {
    const path = `issuer/${segment(issuerId)}/sign-intermediate`;
    // Without use_csr_values the URI of the request is dropped.
    const body = {
      csr,
      use_csr_values: true,
      format: "pem",
      ttl: seconds(ttlMs),
      max_path_length: 0,
    };
    return this.#certificate(mount, path, body);
  }

  /**
   * Certifies a self-signed CA certificate; its serial number and lifetime stay.
   * @param issuerId null: the default issuer, which needs the sudo capability.
   */
  async signSelfIssued(mount: Mount, issuerId: string | null, pem: string): Promise<string> {
    const path = `${issuerId === null ? "root" : `issuer/${segment(issuerId)}`}/sign-self-issued`;
    return this.#certificate(mount, path, { certificate: pem });
  }

  async signLeaf(mount: Mount, request: SignLeafRequest): Promise<string> {
    const { role, issuerId, csr, uri, dnsNames, ipAddresses, ttlMs } = request;
    const path = `issuer/${segment(issuerId)}/sign/${segment(role)}`;
    const body = {
      csr,
      uri_sans: uri,
      ...(dnsNames.length === 0 ? {} : { alt_names: dnsNames.join(",") }),
      ...(ipAddresses.length === 0 ? {} : { ip_sans: ipAddresses.join(",") }),
      ttl: seconds(ttlMs),
      format: "pem",
    };
    return this.#certificate(mount, path, body);
  }

  /** It needs no permission if the mount exists. */
  async listIssuers(mount: Mount): Promise<readonly IssuerListing[]> {
    // An empty list is answered by 404.
    const call = this.#pki("list", mount, "issuers", IssuersResponse);
    const data = (await nullIf(call, "not_found"))?.data;
    return (data?.keys ?? []).map((id) => {
      const { issuer_name, key_id, is_default = false } = data?.key_info[id] ?? {};
      return { id, name: issuer_name ?? "", keyId: key_id ?? "", isDefault: is_default };
    });
  }

  /** Sets fields of an issuer; the others stay. */
  async updateIssuer(mount: Mount, ref: string, fields: Fields): Promise<void> {
    const path = `issuer/${segment(ref)}`;
    const { data } = await this.#pki("read", mount, path, FieldsResponse);
    // PATCH, which keeps the others, needs a capability of its own.
    const kept = ISSUER_FIELDS.map((name) => [name, data[name]] as const).filter(
      ([, value]) => value !== undefined && value !== null && value !== "",
    );
    const body = { ...Object.fromEntries(kept), ...fields };
    await this.#pki("write", mount, path, v.unknown(), { body });
  }

  /** Succeeds if it does not exist. */
  async deleteIssuer(mount: Mount, ref: string): Promise<void> {
    await this.#delete(mount, `issuer/${segment(ref)}`);
  }

  /** Succeeds if it does not exist. @throws {VaultError} `refused` if an issuer uses it */
  async deleteKey(mount: Mount, ref: string): Promise<void> {
    await this.#delete(mount, `key/${segment(ref)}`);
  }

  /** Makes an issuer the default; the rest of that configuration stays. */
  async setDefaultIssuer(mount: Mount, issuerId: string): Promise<void> {
    const path = "config/issuers";
    const { data } = await this.#pki("read", mount, path, IssuersConfigResponse);
    const body = { ...data, default: issuerId };
    await this.#pki("write", mount, path, v.unknown(), { body });
  }

  /** Null if it does not exist. */
  async readRole(mount: Mount, role: string): Promise<Fields | null> {
    const call = this.#pki("read", mount, `roles/${segment(role)}`, FieldsResponse);
    return (await nullIf(call, "not_found"))?.data ?? null;
  }

  async writeRole(mount: Mount, role: string, body: Fields): Promise<void> {
    await this.#pki("write", mount, `roles/${segment(role)}`, v.unknown(), { body });
  }

  /** Succeeds if it does not exist. */
  async deleteRole(mount: Mount, role: string): Promise<void> {
    await this.#delete(mount, `roles/${segment(role)}`);
  }

  #pki<T>(
    verb: Verb,
    { path, namespace }: Mount,
    under: string,
    schema: v.GenericSchema<unknown, T>,
    options: CallOptions = {},
  ): Promise<T> {
    return this.call(verb, { path: `${path}/${under}`, namespace }, schema, options);
  }

  async #certificate(mount: Mount, under: string, body: Fields): Promise<string> {
    const { data } = await this.#pki("write", mount, under, CertificateResponse, { body });
    return data.certificate;
  }

  /** Vault answers 404 for what does not exist, or 500 with these words. */
  async #delete(mount: Mount, under: string): Promise<void> {
    try {
      await this.#pki("delete", mount, under, v.unknown());
    } catch (error) {
      const isGone =
        failedBy(error, "not_found") ||
        (error instanceof VaultError && /unable to find PKI (?:issuer|key)/.test(error.message));
      if (!isGone) throw error;
    }
  }

  async #readPem(mount: Mount, under: string): Promise<string | null> {
    const text = await this.#pki("read", mount, under, v.nullable(v.string()));
    if (text === null || text.trim() === "") return null;
    if (!text.startsWith("-----BEGIN CERTIFICATE-----"))
      throw new VaultError(
        "mount_type",
        `Vault: GET ${mount.path}/${under}: the response is not a certificate: the engine at this path is not PKI`,
      );
    return `${text.trim()}\n`;
  }
}

/** Without ids an issuer cannot be pinned. */
function tooOld(): never {
  throw new ConfigError(
    "error configuring provider: Vault before 1.11 is not supported: the issuers of its PKI engine have no ids; upgrade Vault",
  );
}

function sysMount({ path, namespace }: Mount): Mount {
  return { path: `sys/mounts/${path}`, namespace };
}

/** Whole seconds, which every version reads alike. */
function seconds(ms: number): string {
  return `${Math.max(1, Math.floor(ms / 1000))}s`;
}

function subjectOf({ commonName, uri, keySpec, keyName }: CaSubject): Fields {
  return {
    common_name: commonName,
    uri_sans: uri,
    key_type: keySpec.type,
    key_bits: keySpec.bits,
    // Otherwise the name would become a DNS name as well.
    exclude_cn_from_sans: true,
    key_name: keyName,
  };
}
