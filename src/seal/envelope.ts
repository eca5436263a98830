/**
 * Envelope encryption: each secret has a data key of its own, which a key-encryption key wraps.
 * Both layers are AES-256-GCM; what the secret is sealed for is additional data of the inner one,
 * the key-encryption key's id of the outer one.
 *
 * Sealed text: `sealed:1:<kek id>:<wrapped data key>:<secret>`, each part base64 of a 12-octet
 * nonce and ciphertext. A random nonce is safe here, since a data key encrypts once (NIST SP
 * 800-38D §8.2.2).
 * @module
 */
import { type Bytes, base64, concat, fromBase64, utf8 } from "../core/bytes.ts";
import { SealError } from "../core/errors.ts";
import type { SealedKeyAlgorithm, Sealer, SealPurpose } from "../core/ports/sealer.ts";
import type { Kek, KekRing } from "./kek.ts";

const PREFIX = "sealed:1:";
const NONCE = 12;

interface Parts {
  readonly kek: Kek;
  readonly wrapped: Bytes;
  readonly secret: Bytes;
}

/** Makes the sealer over a ring of key-encryption keys. */
export function createSealer(ring: KekRing): Sealer {
  const split = (sealed: string): Parts => {
    const [id = "", wrapped = "", secret = "", ...more] = sealed.startsWith(PREFIX)
      ? sealed.slice(PREFIX.length).split(":")
      : [];
    const parts = { wrapped: fromBase64(wrapped), secret: fromBase64(secret) };
    if (
      parts.wrapped === null ||
      parts.secret === null ||
      parts.secret.length <= NONCE ||
      more.length > 0
    )
      throw new SealError("open_failed", "Cannot open sealed key: it is malformed");
    const kek = ring.get(id);
    if (kek === undefined)
      throw new SealError(
        "kek_unknown",
        `Cannot open sealed key: key-encryption key ${JSON.stringify(id)} is not among those given`,
      );
    return { kek, wrapped: parts.wrapped, secret: parts.secret };
  };

  const openDataKey = async ({ kek, wrapped }: Parts): Promise<Bytes> => {
    try {
      return new Uint8Array(
        await crypto.subtle.decrypt(
          gcm(wrapped, utf8(kek.id)),
          kek.wrapping,
          wrapped.subarray(NONCE),
        ),
      );
    } catch {
      throw new SealError(
        "open_failed",
        `Cannot open sealed key: key-encryption key ${JSON.stringify(kek.id)} is not the one that sealed it`,
      );
    }
  };

  const wrapDataKey = async (raw: Bytes): Promise<string> => {
    const kek = ring.current;
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE));
    const wrapped = await crypto.subtle.encrypt(gcm(nonce, utf8(kek.id)), kek.wrapping, raw);
    return `${kek.id}:${base64(concat(nonce, new Uint8Array(wrapped)))}`;
  };

  /** Seals with a data key of its own; `seal` uses it once. */
  const sealWith = async (
    usage: "wrapKey" | "encrypt",
    seal: (dataKey: CryptoKey, nonce: Bytes) => Promise<ArrayBuffer>,
  ): Promise<string> => {
    const raw = crypto.getRandomValues(new Uint8Array(32));
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE));
    const dataKey = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, [usage]);
    const secret = await seal(dataKey, nonce);
    const wrapped = await wrapDataKey(raw);
    raw.fill(0);
    return `${PREFIX}${wrapped}:${base64(concat(nonce, new Uint8Array(secret)))}`;
  };

  /** Opens with the data key; `open` gets the nonce with the secret behind it. */
  const openWith = async <T>(
    sealed: string,
    { purpose, id }: SealPurpose,
    usage: "unwrapKey" | "decrypt",
    open: (dataKey: CryptoKey, secret: Bytes) => Promise<T>,
  ): Promise<T> => {
    const parts = split(sealed);
    const raw = await openDataKey(parts);
    try {
      return await open(
        await crypto.subtle.importKey("raw", raw, "AES-GCM", false, [usage]),
        parts.secret,
      );
    } catch {
      throw new SealError(
        "open_failed",
        `Cannot open sealed key: it was not sealed for ${purpose} ${id} of this cluster`,
      );
    } finally {
      raw.fill(0);
    }
  };

  return {
    sealKey: (key, purpose) =>
      sealWith("wrapKey", (dataKey, nonce) =>
        crypto.subtle.wrapKey("pkcs8", key, dataKey, gcm(nonce, additionalData(purpose))),
      ),
    openKey: (sealed: string, purpose: SealPurpose, algorithm: SealedKeyAlgorithm) =>
      openWith(sealed, purpose, "unwrapKey", (dataKey, secret) =>
        crypto.subtle.unwrapKey(
          "pkcs8",
          secret.subarray(NONCE),
          dataKey,
          gcm(secret, additionalData(purpose)),
          algorithm,
          false,
          ["sign"],
        ),
      ),
    sealSecret: (secret, purpose) =>
      sealWith("encrypt", (dataKey, nonce) =>
        crypto.subtle.encrypt(gcm(nonce, additionalData(purpose)), dataKey, secret),
      ),
    openSecret: (sealed, purpose) =>
      openWith(
        sealed,
        purpose,
        "decrypt",
        async (dataKey, secret) =>
          new Uint8Array(
            await crypto.subtle.decrypt(
              gcm(secret, additionalData(purpose)),
              dataKey,
              secret.subarray(NONCE),
            ),
          ),
      ),
    keks: ring.ids,
    kekOf(sealed) {
      return sealed.startsWith(PREFIX) ? (sealed.slice(PREFIX.length).split(":")[0] ?? "") : null;
    },
    async rewrap(sealed) {
      const parts = split(sealed);
      const raw = await openDataKey(parts);
      const wrapped = await wrapDataKey(raw);
      raw.fill(0);
      return `${PREFIX}${wrapped}:${base64(parts.secret)}`;
    },
    async mac(bytes) {
      return `${ring.current.id}:${base64(new Uint8Array(await crypto.subtle.sign("HMAC", ring.current.mac, bytes)))}`;
    },
    async verifyMac(bytes, mac) {
      const [id = "", value = "", ...more] = mac.split(":");
      const key = ring.get(id)?.mac;
      const signature = fromBase64(value);
      if (id === "" || more.length > 0) return false;
      if (key === undefined && signature !== null)
        throw new SealError(
          "kek_unknown",
          `Cannot check the stored state: key-encryption key ${JSON.stringify(id)} is not among those given`,
        );
      return (
        key !== undefined &&
        signature !== null &&
        crypto.subtle.verify("HMAC", key, signature, bytes)
      );
    },
  };
}

/** Parameters with the nonce that stands at the head of `data`. */
function gcm(data: Bytes, additional: Bytes): AesGcmParams {
  return { name: "AES-GCM", iv: data.subarray(0, NONCE), additionalData: additional };
}

function additionalData({ clusterId, purpose, id }: SealPurpose): Bytes {
  return utf8(JSON.stringify(["meshca", 1, clusterId, purpose, id]));
}
