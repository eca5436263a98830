/**
 * Envelope encryption: each secret is encrypted with a data key of its own, and the data key with a
 * key-encryption key. Both layers are AES-256-GCM; the purpose of the secret is additional data of
 * the inner one, the id of the key-encryption key that of the outer one.
 *
 * Stored text: `sealed:1:<kek id>:<encrypted data key>:<encrypted secret>`, each part base64 of a
 * 12-octet nonce and the ciphertext. `sealed:2:` has the datacenter in the additional data, too. A random nonce is safe here, since a data key encrypts once
 * (NIST SP 800-38D §8.2.2).
 * @module
 */
import { type Bytes, base64, concat, fromBase64, utf8 } from "../core/bytes.ts";
import { SealError } from "../core/errors.ts";
import type { SealedKeyAlgorithm, Sealer, SealPurpose } from "../core/ports/sealer.ts";
import type { Kek, KekRing } from "./kek.ts";

/** The head of a text of each version. */
const HEAD = /^sealed:([12]):/;
type Version = "1" | "2";
const NONCE = 12;

interface Parts {
  readonly version: Version;
  readonly kek: Kek;
  readonly wrapped: Bytes;
  readonly secret: Bytes;
}

/**
 * Encrypts and decrypts with a ring of key-encryption keys.
 * @param datacenter of a deployment with several, into which no text of another one is decrypted;
 * null in a deployment of one datacenter. @default null
 */
export function createSealer(ring: KekRing, datacenter: string | null = null): Sealer {
  return new EnvelopeSealer(ring, datacenter);
}

class EnvelopeSealer implements Sealer {
  readonly #ring: KekRing;
  readonly #datacenter: string | null;

  constructor(ring: KekRing, datacenter: string | null) {
    this.#ring = ring;
    this.#datacenter = datacenter;
  }

  get keks(): readonly string[] {
    return this.#ring.ids;
  }

  of(datacenter: string | null): Sealer {
    return new EnvelopeSealer(this.#ring, datacenter);
  }

  sealKey(key: CryptoKey, purpose: SealPurpose): Promise<string> {
    return this.#seal("wrapKey", (dataKey, nonce) =>
      crypto.subtle.wrapKey("pkcs8", key, dataKey, gcm(nonce, this.#newData(purpose))),
    );
  }

  openKey(sealed: string, purpose: SealPurpose, type: SealedKeyAlgorithm): Promise<CryptoKey> {
    return this.#open(sealed, purpose, "unwrapKey", (dataKey, secret, additional) => {
      const algorithm = gcm(secret, additional);
      const key = secret.subarray(NONCE);
      return crypto.subtle.unwrapKey("pkcs8", key, dataKey, algorithm, type, false, ["sign"]);
    });
  }

  sealSecret(secret: Bytes, purpose: SealPurpose): Promise<string> {
    return this.#seal("encrypt", (dataKey, nonce) =>
      crypto.subtle.encrypt(gcm(nonce, this.#newData(purpose)), dataKey, secret),
    );
  }

  openSecret(sealed: string, purpose: SealPurpose): Promise<Bytes> {
    return this.#open(sealed, purpose, "decrypt", async (dataKey, secret, additional) => {
      const algorithm = gcm(secret, additional);
      return new Uint8Array(
        await crypto.subtle.decrypt(algorithm, dataKey, secret.subarray(NONCE)),
      );
    });
  }

  kekOf(sealed: string): string | null {
    return HEAD.test(sealed) ? (sealed.split(":")[2] ?? "") : null;
  }

  async rewrap(sealed: string): Promise<string> {
    const parts = this.#split(sealed);
    const raw = await decryptDataKey(parts);
    const wrapped = await this.#encryptDataKey(raw);
    raw.fill(0);
    return `sealed:${parts.version}:${wrapped}:${base64(parts.secret)}`;
  }

  async mac(bytes: Bytes): Promise<string> {
    const { id, mac } = this.#ring.current;
    return `${id}:${base64(new Uint8Array(await crypto.subtle.sign("HMAC", mac, bytes)))}`;
  }

  async verifyMac(bytes: Bytes, mac: string): Promise<boolean> {
    const [id = "", value = "", ...more] = mac.split(":");
    const key = this.#ring.get(id)?.mac;
    const signature = fromBase64(value);
    if (id === "" || more.length > 0 || signature === null) return false;
    if (key === undefined) throw unknownKek("Cannot verify a MAC of the stored state", id);
    return crypto.subtle.verify("HMAC", key, signature, bytes);
  }

  /** @throws {SealError} */
  #split(sealed: string): Parts {
    const version = HEAD.exec(sealed)?.[1] as Version | undefined;
    const [id = "", wrappedText = "", secretText = "", ...more] =
      version === undefined ? [] : sealed.split(":").slice(2);
    const [wrapped, secret] = [fromBase64(wrappedText), fromBase64(secretText)];
    const isWhole = wrapped !== null && secret !== null && secret.length > NONCE;
    if (version === undefined || !isWhole || more.length > 0)
      throw undecryptable("its stored text is malformed");
    const kek = this.#ring.get(id);
    if (kek === undefined) throw unknownKek("Cannot decrypt a stored key", id);
    return { version, kek, wrapped, secret };
  }

  /** Encrypts with a new data key; `seal` uses it once. */
  async #seal(
    usage: "wrapKey" | "encrypt",
    seal: (dataKey: CryptoKey, nonce: Bytes) => Promise<ArrayBuffer>,
  ): Promise<string> {
    const raw = crypto.getRandomValues(new Uint8Array(32));
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE));
    const dataKey = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, [usage]);
    const secret = await seal(dataKey, nonce);
    const wrapped = await this.#encryptDataKey(raw);
    raw.fill(0);
    const version: Version = this.#datacenter === null ? "1" : "2";
    return `sealed:${version}:${wrapped}:${base64(concat(nonce, new Uint8Array(secret)))}`;
  }

  /** Decrypts with the data key; `open` takes the nonce followed by the ciphertext. */
  async #open<T>(
    sealed: string,
    purpose: SealPurpose,
    usage: "unwrapKey" | "decrypt",
    open: (dataKey: CryptoKey, secret: Bytes, additional: Bytes) => Promise<T>,
  ): Promise<T> {
    const parts = this.#split(sealed);
    if (parts.version === "2" && this.#datacenter === null)
      throw undecryptable(
        "it was encrypted for one of several datacenters, and this server has one",
      );
    const additional = additionalData(purpose, parts.version === "1" ? null : this.#datacenter);
    const raw = await decryptDataKey(parts);
    try {
      const dataKey = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, [usage]);
      return await open(dataKey, parts.secret, additional);
    } catch {
      throw undecryptable(
        `it was not encrypted as ${purpose.purpose} ${purpose.id} of this cluster${parts.version === "1" ? "" : " and datacenter"}`,
      );
    } finally {
      raw.fill(0);
    }
  }

  #newData(purpose: SealPurpose): Bytes {
    return additionalData(purpose, this.#datacenter);
  }

  async #encryptDataKey(raw: Bytes): Promise<string> {
    const { id, wrapping } = this.#ring.current;
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE));
    const wrapped = await crypto.subtle.encrypt(gcm(nonce, utf8(id)), wrapping, raw);
    return `${id}:${base64(concat(nonce, new Uint8Array(wrapped)))}`;
  }
}

/** The data key; the caller overwrites it. @throws {SealError} `open_failed` */
async function decryptDataKey({ kek, wrapped }: Parts): Promise<Bytes> {
  const algorithm = gcm(wrapped, utf8(kek.id));
  try {
    return new Uint8Array(
      await crypto.subtle.decrypt(algorithm, kek.wrapping, wrapped.subarray(NONCE)),
    );
  } catch {
    const id = JSON.stringify(kek.id);
    throw undecryptable(`key-encryption key ${id} is not the one that encrypted it`);
  }
}

function undecryptable(reason: string): SealError {
  return new SealError("open_failed", `Cannot decrypt a stored key: ${reason}`);
}

function unknownKek(action: string, id: string): SealError {
  const name = JSON.stringify(id);
  return new SealError("kek_unknown", `${action}: key-encryption key ${name} is not configured`);
}

/** Parameters with the nonce at the head of `data`. */
function gcm(data: Bytes, additional: Bytes): AesGcmParams {
  return { name: "AES-GCM", iv: data.subarray(0, NONCE), additionalData: additional };
}

function additionalData({ clusterId, purpose, id }: SealPurpose, datacenter: string | null): Bytes {
  return utf8(
    JSON.stringify(
      datacenter === null
        ? ["meshca", 1, clusterId, purpose, id]
        : ["meshca", 2, clusterId, datacenter, purpose, id],
    ),
  );
}
