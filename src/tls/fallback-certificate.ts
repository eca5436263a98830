/**
 * The self-signed certificate that the server shows while the CA cannot issue one for it: before
 * the CA is loaded, and after its root or the server's last certificate has expired. It is stored in
 * the data folder, so that an operator can pin it.
 * @module
 */
import { X509Certificate } from "node:crypto";
import { type Bytes, hex, sha256, utf8 } from "../core/bytes.ts";
import { certificatePem } from "../core/pem.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";
import { generateCaKey } from "../core/x509/authority.ts";
import {
  contextPrimitive,
  element,
  encode,
  oid,
  oidContent,
  sequence,
  wholeSecond,
} from "../core/x509/der.ts";
import { caScheme } from "../core/x509/keys.ts";
import { createSerials, ipText, type ServerNames } from "../core/x509/leaf.ts";
import { OID } from "../core/x509/oids.ts";
import { makeCertificate } from "../core/x509/peculiar.ts";
import { privateKeyPem } from "../core/x509/request.ts";
import { type KeyPair, readKeyPair } from "./key-pair.ts";

/** The file in the data folder: the certificate, then its key. */
export const FALLBACK_FILE = "tls-emergency.pem";
/** The validity in milliseconds: a year, and a day back for clients whose clock is behind. */
const [LIFE_MS, BACKDATE_MS] = [365 * 86_400_000, 86_400_000];
const NAME = "meshca emergency certificate";

interface FallbackPlatform {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** The fallback certificate of one server. The workers of a server share it through the file. */
export class FallbackCertificate {
  readonly #file: PersistentFile | null;
  readonly #names: ServerNames;
  readonly #platform: FallbackPlatform;
  #pair: KeyPair | null = null;

  /** @param file null if there is no data folder: the certificate lives as long as the process. */
  constructor(file: PersistentFile | null, names: ServerNames, platform: FallbackPlatform) {
    this.#file = file;
    this.#names = names;
    this.#platform = platform;
  }

  /** The path of its file, or null. */
  get file(): string | null {
    return this.#file?.name ?? null;
  }

  /**
   * The certificate of the file if it can be used, else the one of this process, else a new one. A
   * file that cannot be read or written is no error.
   */
  async pair(): Promise<KeyPair> {
    const stored = this.#read();
    if (stored !== null) this.#pair = stored;
    else if (this.#pair === null || !this.#isUsable(this.#pair)) {
      this.#pair = await makeFallback(this.#names, this.#platform);
      await this.#write(this.#pair);
    }
    return this.#pair;
  }

  #read(): KeyPair | null {
    try {
      const text = this.#file?.read() ?? null;
      const pair = text === null ? null : readKeyPair(text, text);
      return pair === null || "of" in pair || !this.#isUsable(pair) ? null : pair;
    } catch {
      return null;
    }
  }

  async #write({ cert, key }: KeyPair): Promise<void> {
    try {
      // RFC 7468 section 2: parsers ignore text before the first block.
      await this.#file?.write(`Fingerprint ${fingerprintOf(cert)}\n${cert}${key}`);
    } catch (error) {
      this.#platform.log.warn(
        "Failed to write the self-signed fallback certificate to the data folder; keeping it in memory",
        {
          file: this.file,
          reason: error instanceof Error && "code" in error ? String(error.code) : "unknown",
        },
      );
    }
  }

  /** Whether a certificate is valid now and has all names of the server. */
  #isUsable({ cert }: KeyPair): boolean {
    const { dnsNames, ipAddresses } = this.#names;
    const certificate = new X509Certificate(cert);
    const now = this.#platform.clock.now().getTime();
    return (
      Date.parse(certificate.validFrom) <= now &&
      now < Date.parse(certificate.validTo) &&
      dnsNames.every((name) => certificate.checkHost(name) !== undefined) &&
      ipAddresses.every((address) => certificate.checkIP(ipText(address)) !== undefined)
    );
  }
}

/** `sha256:` and the SHA-256 over the DER of the first certificate of a PEM text, in hexadecimal. */
export function fingerprintOf(cert: string): string {
  return `sha256:${hex(sha256(new Uint8Array(new X509Certificate(cert).raw)))}`;
}

/** Makes a self-signed P-256 certificate for a server's names. It is not a CA. */
export async function makeFallback(
  names: ServerNames,
  { clock, random }: Pick<FallbackPlatform, "clock" | "random">,
): Promise<KeyPair> {
  const key = await generateCaKey({ type: "ec", bits: 256 });
  const now = clock.now().getTime();
  // RFC 5280 section 4.2.1.6: dNSName is [2], iPAddress is [7].
  const alternatives = sequence(
    ...names.dnsNames.map((name) => element(contextPrimitive(2), utf8(name))),
    ...names.ipAddresses.map((address) => element(contextPrimitive(7), address)),
  );
  const usages = sequence(oid(oidContent(OID.serverAuth)));
  const raw = (id: string, critical: boolean, value: Bytes) =>
    ({ kind: "raw", oid: id, critical, value }) as const;
  const der = await makeCertificate({
    serial: createSerials(random)(),
    issuer: NAME,
    subject: NAME,
    notBefore: wholeSecond(new Date(now - BACKDATE_MS)),
    notAfter: wholeSecond(new Date(now + LIFE_MS)),
    spki: key.info.spki,
    extensions: [
      raw(OID.basicConstraints, true, encode(sequence())),
      raw(OID.extKeyUsage, false, encode(usages)),
      raw(OID.subjectAltName, false, encode(alternatives)),
    ],
    signingKey: key.privateKey,
    scheme: caScheme(key.info, "SHA-256"),
  });
  return { cert: certificatePem(der), key: await privateKeyPem(key.privateKey) };
}
