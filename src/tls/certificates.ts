/**
 * The certificate that a TLS server shows, and the CAs that client certificates must come from, kept
 * up to date: from files, or from our own CA with a self-signed fallback.
 * @module
 */
import { X509Certificate } from "node:crypto";
import type { TlsSettings } from "../config/tls.ts";
import type { CertificateAuthority } from "../core/ca/ca.ts";
import type { ServerCertificate } from "../core/ca/expiry.ts";
import { isOwnLeaf } from "../core/ca/renewal-check.ts";
import { NotReadyError, reasonOf } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";
import type { CaState } from "../core/state.ts";
import { pemOf, readCertificate } from "../core/x509/certificate.ts";
import { NO_SERVER_NAMES } from "../core/x509/leaf.ts";
import {
  FALLBACK_FILE,
  FallbackCertificate,
  fingerprintOf,
  makeFallback,
} from "./fallback-certificate.ts";
import { TlsFiles } from "./files.ts";
import { FingerprintFile } from "./fingerprint-file.ts";
import type { KeyPair } from "./key-pair.ts";
import { OwnCertificate } from "./own-certificate.ts";
import type { TlsServer } from "./server.ts";

/** How often files are read and dates are compared, in milliseconds. */
const POLL_MS = 2000;

/** What this folder needs of the platform. */
interface TlsPlatform {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** A file in the data folder, or null if there is no such folder. */
  persistentFile(name: string): PersistentFile | null;
}

interface FingerprintOptions {
  /** Null: the fingerprint is only logged. */
  readonly file: PersistentFile | null;
  readonly hasWorkers: boolean;
}

export class TlsCertificates {
  readonly #settings: TlsSettings;
  readonly #datacenter: string;
  readonly #platform: TlsPlatform;
  readonly #files: TlsFiles;
  readonly #fallback: FallbackCertificate | null;
  readonly #fingerprint: FingerprintFile;
  readonly #hasWorkers: boolean;
  #server: TlsServer | null = null;
  #ca: Pick<CertificateAuthority, "snapshot"> | null = null;
  #own: OwnCertificate | null = null;
  /** A CA whose key nobody has, for client certificates before our own roots are known. */
  #unusableCa: Promise<KeyPair> | null = null;
  #shown: ServerCertificate | null = null;
  /** What the server was given last. */
  #used = "";
  /** The reason for the fallback that was logged last. */
  #logged: string | null = null;
  /** Settles when the current update has ended; it never rejects. */
  #updating: Promise<unknown> = Promise.resolve();
  /** Whether an update was requested since the last one. */
  #pending = false;
  #endPause: () => void = () => undefined;
  #unsubscribe: () => void = () => undefined;

  /**
   * Reads the files.
   * @param fingerprint where the fingerprint of the certificate is stored, and whether this process is
   * one of several behind one port
   * @throws {ConfigError} if they cannot be used
   */
  constructor(
    settings: TlsSettings,
    datacenter: string,
    readFile: (path: string) => string,
    platform: TlsPlatform,
    fingerprint: FingerprintOptions = { file: null, hasWorkers: false },
  ) {
    const { clock, log } = platform;
    this.#settings = settings;
    this.#datacenter = datacenter;
    this.#platform = platform;
    this.#fingerprint = new FingerprintFile(fingerprint.file, log);
    this.#hasWorkers = fingerprint.hasWorkers;
    this.#files = new TlsFiles(settings, readFile, clock, log);
    this.#fallback =
      settings.source.kind === "self"
        ? new FallbackCertificate(
            platform.persistentFile(FALLBACK_FILE),
            settings.source.names,
            platform,
          )
        : null;
  }

  /** The certificate in use; null before `open`. */
  get shown(): ServerCertificate | null {
    return this.#shown;
  }

  /**
   * Gives the server its first certificate: that of the files, or the fallback until the CA issues
   * one.
   */
  async open(server: TlsServer): Promise<void> {
    this.#server = server;
    await this.#update();
  }

  /** Uses the certificate and the roots of the CA, which is loaded now. */
  async start(ca: Pick<CertificateAuthority, "snapshot" | "sign" | "subscribe">): Promise<void> {
    const { source } = this.#settings;
    const { clock, log } = this.#platform;
    const datacenter = this.#datacenter;
    this.#ca = ca;
    if (source.kind === "self")
      this.#own = new OwnCertificate({ ca, datacenter, names: source.names, clock, log });
    this.#unsubscribe = ca.subscribe(() => this.reload());
    await this.#update();
    this.#logFallback();
  }

  /** Keeps the newest certificate in use, until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const pause = new AbortController();
      this.#endPause = () => pause.abort();
      if (!this.#pending) {
        signal.addEventListener("abort", this.#endPause, { once: true });
        await this.#platform.clock.sleep(POLL_MS, pause.signal);
        signal.removeEventListener("abort", this.#endPause);
      }
      this.#pending = false;
      if (signal.aborted) break;
      await this.#update().catch((error: unknown) =>
        this.#platform.log.error(
          "Failed to replace the TLS certificate of this server; keeping the previous certificate",
          { reason: reasonOf(error) },
        ),
      );
      this.#logFallback();
    }
    this.#unsubscribe();
  }

  /** Reads the files now. */
  reload(): void {
    this.#pending = true;
    this.#endPause();
  }

  /** Gives the server the newest certificate, after the update that runs already. */
  #update(): Promise<void> {
    const update = this.#updating.then(() => this.#useNewest());
    this.#updating = update.catch(() => undefined);
    return update;
  }

  async #useNewest(): Promise<void> {
    this.#files.reload();
    await this.#own?.renew();
    const issued = this.#fallback === null ? this.#files.loaded.pair : (this.#own?.pair ?? null);
    const pair = issued ?? (await this.#fallback?.pair()) ?? null;
    if (pair === null || this.#server === null) return;
    const clientCa = await this.#clientCa();
    const next = JSON.stringify([pair, clientCa]);
    if (next !== this.#used) {
      const isSelf = this.#settings.clientCa?.kind === "self";
      this.#server.use(pair, clientCa, isSelf ? this.#isOurs : null);
    }
    this.#used = next;
    const { validFrom, validTo } = new X509Certificate(pair.cert);
    this.#shown = {
      notBefore: new Date(validFrom),
      notAfter: new Date(validTo),
      fingerprint: fingerprintOf(pair.cert),
      fallback: issued === null ? (this.#own?.reason ?? "the CA is not loaded yet") : null,
    };
    // Workers share files and the fallback certificate, and each has its own of this CA.
    const isShared = !this.#hasWorkers || this.#fallback === null || issued === null;
    await this.#fingerprint.show(pair.cert, isShared);
  }

  /** PEM of the CAs that client certificates must come from; null if none is requested. */
  async #clientCa(): Promise<string | null> {
    const { clientCa } = this.#settings;
    if (clientCa === null) return null;
    if (clientCa.kind === "file") return this.#files.loaded.clientCa;
    const state = this.#ca?.snapshot?.state;
    const trusted = state === undefined ? "" : trustedPem(state);
    if (trusted !== "") return trusted;
    this.#unusableCa ??= makeFallback(NO_SERVER_NAMES, this.#platform);
    return (await this.#unusableCa).cert;
  }

  /** Whether a client certificate (DER) that TLS verified is a leaf of this CA. */
  readonly #isOurs = async (der: Uint8Array): Promise<boolean> => {
    const state = this.#ca?.snapshot?.state;
    if (state === undefined)
      throw new NotReadyError("ca_uninitialized", "The CA is not loaded yet");
    return isOwnLeaf(readCertificate(new Uint8Array(der)), state, this.#platform.clock.now());
  };

  #logFallback(): void {
    const shown = this.#shown;
    const before = this.#logged;
    this.#logged = shown?.fallback ?? null;
    if (shown === null || before === this.#logged) return;
    const { log } = this.#platform;
    if (shown.fallback === null) {
      log.info(
        "Serving TLS with a certificate of this CA again, and no longer with the self-signed fallback certificate",
      );
      return;
    }
    const file = this.#fallback?.file ?? null;
    log.error(
      "Serving TLS with the self-signed fallback certificate: the CA cannot issue a certificate for its own server",
      {
        reason: shown.fallback,
        fingerprint: shown.fingerprint,
        ...(file === null ? {} : { file }),
      },
    );
    const { clientCa, clientCertificate } = this.#settings;
    if (clientCa?.kind === "self" && clientCertificate === "required")
      log.error(
        "Client certificates of this CA may no longer verify. If none does, restart with MESHCA_TLS_CLIENT_CERT=optional and repair the CA with an ACL token",
      );
  }
}

/**
 * PEM of the certificates by which TLS verifies client certificates: the published roots that were
 * not abandoned, and the issuers of their leaves, so that a client need not send these. TLS accepts
 * more than our leaves; `isOwnLeaf` decides.
 */
function trustedPem({ roots }: CaState): string {
  const trusted = roots.filter(({ abandoned }) => !abandoned);
  const issuers = trusted.flatMap(({ leafIssuers }) =>
    leafIssuers.map(({ certificate }) => certificate),
  );
  return [
    ...new Set([...trusted.map(({ certificate }) => certificate), ...issuers].map(pemOf)),
  ].join("");
}
