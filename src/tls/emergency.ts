/**
 * A self-signed certificate for the time in which the CA cannot issue one for its own server:
 * before it is loaded, and after its root or its last certificate has expired. It is kept in the
 * data folder, so that an operator can pin it.
 * @module
 */
import { X509Certificate } from "node:crypto";
import { type Bytes, utf8 } from "../core/bytes.ts";
import { certificatePem } from "../core/pem.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
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
import { OID } from "../core/x509/oids.ts";
import { makeCertificate } from "../core/x509/peculiar.ts";
import { createSerials, ipText, type ServerNames } from "../core/x509/profile.ts";
import { privateKeyPem } from "../core/x509/request.ts";
import { type Pair, readPair } from "./pair.ts";

/** The file in the data folder: the certificate, and below it its key. */
export const EMERGENCY_FILE = "tls-emergency.pem";
/**
 * How long a certificate lives, in milliseconds: a year, and a day back for a client whose clock is
 * behind.
 */
const [LIFE_MS, BACKDATE_MS] = [365 * 86_400_000, 86_400_000];

/** A text that is kept over a restart. */
interface Kept {
  /** Null if nothing was written yet. @throws {Error} */
  read(): string | null;
  /** Replaces it as a whole. @throws {Error} */
  write(text: string): Promise<void>;
  readonly name: string;
}

export interface EmergencyOptions {
  /** Null if there is no data folder: then the certificate lives as long as the process. */
  readonly kept: Kept | null;
  readonly names: ServerNames;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** The emergency certificate of one server. The workers of a server share it through the file. */
export class EmergencyCertificate {
  readonly #options: EmergencyOptions;
  #pair: Pair | null = null;

  constructor(options: EmergencyOptions) {
    this.#options = options;
  }

  /** Where it is kept, or null. */
  get file(): string | null {
    return this.#options.kept?.name ?? null;
  }

  /**
   * The certificate of the file if it can be used, else the one of this process, else a new one. It
   * never rejects for a file.
   */
  async pair(): Promise<Pair> {
    const kept = this.#read();
    if (kept !== null) this.#pair = kept;
    else if (this.#pair === null || !this.#isUsable(this.#pair)) {
      this.#pair = await makeEmergency(this.#options);
      await this.#write(this.#pair);
    }
    return this.#pair;
  }

  #read(): Pair | null {
    try {
      const text = this.#options.kept?.read() ?? null;
      const pair = text === null ? null : readPair(text, text);
      return pair === null || "of" in pair || !this.#isUsable(pair) ? null : pair;
    } catch {
      return null;
    }
  }

  async #write(pair: Pair): Promise<void> {
    const { kept, log } = this.#options;
    try {
      // Text before a block is no part of it (RFC 7468 section 2).
      await kept?.write(`SHA-256 fingerprint ${fingerprintOf(pair.cert)}\n${pair.cert}${pair.key}`);
    } catch (error) {
      log.warn(
        "Cannot write the emergency certificate into the data folder; it is kept in memory",
        {
          file: kept?.name,
          reason: error instanceof Error && "code" in error ? String(error.code) : "unknown",
        },
      );
    }
  }

  /** Whether a certificate is in force and has all names that are to be served. */
  #isUsable({ cert }: Pair): boolean {
    const { names, clock } = this.#options;
    const certificate = new X509Certificate(cert);
    const now = clock.now().getTime();
    return (
      Date.parse(certificate.validFrom) <= now &&
      now < Date.parse(certificate.validTo) &&
      names.dnsNames.every((name) => certificate.checkHost(name) !== undefined) &&
      names.ipAddresses.every((address) => certificate.checkIP(ipText(address)) !== undefined)
    );
  }
}

/**
 * SHA-256 over the DER of a PEM text's first certificate, as `openssl x509 -fingerprint -sha256`
 * prints it.
 */
export function fingerprintOf(cert: string): string {
  return new X509Certificate(cert).fingerprint256;
}

/** Makes a self-signed P-256 certificate for a server's names. It is not a CA. */
export async function makeEmergency({
  names,
  clock,
  random,
}: Pick<EmergencyOptions, "names" | "clock" | "random">): Promise<Pair> {
  const key = await generateCaKey({ type: "ec", bits: 256 });
  const now = clock.now().getTime();
  const alternatives = sequence(
    ...names.dnsNames.map((name) => element(contextPrimitive(2), utf8(name))),
    ...names.ipAddresses.map((address) => element(contextPrimitive(7), address)),
  );
  const usages = sequence(oid(oidContent(OID.serverAuth)));
  const raw = (id: string, critical: boolean, value: Bytes) =>
    ({ kind: "raw", oid: id, critical, value }) as const;
  const der = await makeCertificate({
    serial: createSerials(random)(),
    issuer: "meshca emergency certificate",
    subject: "meshca emergency certificate",
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
