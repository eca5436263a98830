/**
 * TLS as its settings say: which certificate is shown, and that the newest one is in use.
 * @module
 */
import { X509Certificate } from "node:crypto";
import type { TlsSettings } from "../config/tls.ts";
import type { CaManager } from "../core/ca/ca.ts";
import type { ServerCertificate } from "../core/ca/expiry.ts";
import { isOwnLeaf } from "../core/ca/renewal-check.ts";
import { NotReadyError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { CaState } from "../core/state.ts";
import { pemOf, readCertificate } from "../core/x509/certificate.ts";
import { NO_SERVER_NAMES } from "../core/x509/profile.ts";
import { EMERGENCY_FILE, EmergencyCertificate, fingerprintOf, makeEmergency } from "./emergency.ts";
import { openFiles } from "./files.ts";
import { createOwnCertificate, type OwnCertificate } from "./own.ts";
import type { Pair } from "./pair.ts";
import type { TlsServer } from "./server.ts";

/** How often files are read and dates are compared, in milliseconds. */
const POLL_MS = 2000;

export interface TlsOptions {
  readonly settings: TlsSettings;
  readonly datacenter: string;
  readonly readFile: (path: string) => string;
  /** A text in the data folder, or null if there is no such folder. */
  readonly persistentFile: (
    name: string,
  ) => ConstructorParameters<typeof EmergencyCertificate>[0]["kept"];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface Tls {
  /** The certificate in use; null before `open`. */
  readonly shown: ServerCertificate | null;
  /**
   * Gives the server its first certificate: that of the files, or the emergency one until the CA
   * issues one.
   */
  open(server: TlsServer): Promise<void>;
  /** The CA is loaded: from now on its certificate and its roots are in use. */
  start(manager: Pick<CaManager, "snapshot" | "sign" | "subscribe">): Promise<void>;
  /** Keeps the newest certificate in use, until `signal` fires. */
  run(signal: AbortSignal): Promise<void>;
  /** Reads the files now. */
  reload(): void;
}

/** Reads what is in files. @throws {ConfigError} if they cannot be used */
export function openTls(options: TlsOptions): Tls {
  return new CertificateKeeper(options);
}

class CertificateKeeper implements Tls {
  readonly #options: TlsOptions;
  readonly #files: ReturnType<typeof openFiles>;
  readonly #emergency: EmergencyCertificate | null;
  #server: TlsServer | null = null;
  #manager: Pick<CaManager, "snapshot"> | null = null;
  #own: OwnCertificate | null = null;
  /**
   * A CA for clients' certificates whose key nobody has: for the time before our own roots are
   * known.
   */
  #nobody: Promise<Pair> | null = null;
  #shown: ServerCertificate | null = null;
  /** What the server was given last. */
  #used = "";
  /** The emergency that was logged last. */
  #logged: string | null = null;
  /** Settles when the step that runs has ended; it never rejects. */
  #running: Promise<unknown> = Promise.resolve();
  /** Whether there was a reason to look again since the last look. */
  #pending = false;
  #endPause: () => void = () => undefined;
  #unsubscribe: () => void = () => undefined;

  constructor(options: TlsOptions) {
    const { settings, readFile, clock, random, log } = options;
    this.#options = options;
    this.#files = openFiles(settings, readFile, clock, log);
    const { source } = settings;
    this.#emergency =
      source.kind === "self"
        ? new EmergencyCertificate({
            kept: options.persistentFile(EMERGENCY_FILE),
            names: source.names,
            clock,
            random,
            log,
          })
        : null;
  }

  get shown() {
    return this.#shown;
  }

  async open(server: TlsServer) {
    this.#server = server;
    await this.#step();
  }

  async start(manager: Pick<CaManager, "snapshot" | "sign" | "subscribe">) {
    const { settings, datacenter, clock, log } = this.#options;
    const { source } = settings;
    this.#manager = manager;
    if (source.kind === "self")
      this.#own = createOwnCertificate({ manager, datacenter, names: source.names, clock, log });
    this.#unsubscribe = manager.subscribe(() => this.reload());
    await this.#step();
    this.#logEmergency();
  }

  async run(signal: AbortSignal) {
    while (!signal.aborted) {
      const pause = new AbortController();
      this.#endPause = () => pause.abort();
      if (!this.#pending) {
        signal.addEventListener("abort", this.#endPause, { once: true });
        await this.#options.clock.sleep(POLL_MS, pause.signal);
        signal.removeEventListener("abort", this.#endPause);
      }
      this.#pending = false;
      if (signal.aborted) break;
      await this.#step().catch((error: unknown) =>
        this.#options.log.error(
          "Cannot replace the certificate for TLS; the previous one stays in use",
          {
            reason: error instanceof Error ? error.name : "unknown",
          },
        ),
      );
      this.#logEmergency();
    }
    this.#unsubscribe();
  }

  reload() {
    this.#pending = true;
    this.#endPause();
  }

  /** Gives the server what is newest, one step after the other. */
  #step(): Promise<void> {
    const step = this.#running.then(() => this.#renew());
    this.#running = step.catch(() => undefined);
    return step;
  }

  async #renew(): Promise<void> {
    this.#files.reload();
    await this.#own?.renew();
    const issued = this.#emergency === null ? this.#files.loaded.pair : (this.#own?.pair ?? null);
    const pair = issued ?? (await this.#emergency?.pair()) ?? null;
    if (pair === null || this.#server === null) return;
    const trusted = await this.#clientCa();
    const now = JSON.stringify([pair, trusted]);
    if (now !== this.#used)
      this.#server.use(
        pair,
        trusted,
        this.#options.settings.clientCa?.kind === "self" ? this.#isOurs : null,
      );
    this.#used = now;
    const { validFrom, validTo } = new X509Certificate(pair.cert);
    const emergency = issued === null ? (this.#own?.reason ?? "the CA is not loaded yet") : null;
    this.#shown = {
      notBefore: new Date(validFrom),
      notAfter: new Date(validTo),
      fingerprint: fingerprintOf(pair.cert),
      emergency,
    };
  }

  /** PEM of the CAs that clients' certificates must come from; null if none is requested. */
  async #clientCa(): Promise<string | null> {
    const { settings, clock, random } = this.#options;
    if (settings.clientCa === null) return null;
    if (settings.clientCa.kind === "file") return this.#files.loaded.clientCa;
    const state = this.#manager?.snapshot?.state;
    const trusted = state === undefined ? "" : trustedPem(state);
    if (trusted !== "") return trusted;
    this.#nobody ??= makeEmergency({ names: NO_SERVER_NAMES, clock, random });
    return (await this.#nobody).cert;
  }

  /** Whether a client's certificate that verified is one of this CA's leaves. */
  readonly #isOurs = async (der: Uint8Array): Promise<boolean> => {
    const state = this.#manager?.snapshot?.state;
    if (state === undefined)
      throw new NotReadyError("ca_uninitialized", "The CA is not loaded yet");
    return isOwnLeaf(readCertificate(new Uint8Array(der)), state, this.#options.clock.now());
  };

  #logEmergency(): void {
    const { shown } = this;
    const before = this.#logged;
    this.#logged = shown?.emergency ?? null;
    if (shown === null || before === this.#logged) return;
    const { log } = this.#options;
    if (shown.emergency === null) {
      log.info("The emergency certificate for TLS is no longer in use");
      return;
    }
    log.error(
      "Serving TLS with a self-signed emergency certificate, since this CA cannot issue one for its own server",
      {
        reason: shown.emergency,
        fingerprint: shown.fingerprint,
        ...(this.#emergency?.file == null ? {} : { file: this.#emergency.file }),
      },
    );
    const { clientCa, clientCertificate } = this.#options.settings;
    if (clientCa?.kind === "self" && clientCertificate === "required")
      log.error(
        "No client certificate of this CA may verify now: if none does, restart with MESHCA_TLS_CLIENT_CERT=optional to repair the CA with a token",
      );
  }
}

/**
 * The PEM of the certificates by which TLS verifies a client's: the published roots that were not
 * abandoned, and the issuers of their leaves, so that a client need not send them along. Which of
 * what verifies is a leaf of ours is decided by the record of issuers (renewal-check.ts).
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
