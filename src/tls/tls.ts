/**
 * TLS as its settings say: where certificates come from, and that the newest are in use.
 * @module
 */
import type { TlsSettings } from "../config/tls.ts";
import type { CaManager } from "../core/ca/manager.ts";
import { isOwnLeaf } from "../core/ca/own-leaf.ts";
import type { CaState } from "../core/ca/state.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import { pemOf, readCertificate } from "../core/x509/certificate.ts";
import { openFiles } from "./files.ts";
import { createOwnCertificate } from "./own.ts";
import type { TlsServer } from "./server.ts";

/** How often files are read and dates looked at, in milliseconds. */
const POLL_MS = 2000;

export interface TlsOptions {
  readonly settings: TlsSettings;
  readonly datacenter: string;
  readonly readFile: (path: string) => string;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Tls {
  /** Gives the server its first certificate, where there can be one yet. */
  start(manager: CaManager, server: TlsServer): Promise<void>;
  /** Sees to it that the newest is in use, until `signal` fires. */
  run(signal: AbortSignal): Promise<void>;
}

/** Reads what is in files. @throws {ConfigError} where they cannot be used */
export function openTls({ settings, datacenter, readFile, clock, log }: TlsOptions): Tls {
  const { source, clientCa } = settings;
  const files = openFiles(settings, readFile, clock, log);
  let step: () => Promise<void> = async () => undefined;
  let wake: () => void = () => undefined;
  let unsubscribe: () => void = () => undefined;

  return {
    async start(manager, server) {
      const own = source.kind === "self" ? createOwnCertificate({ manager, datacenter, names: source.names, clock, log }) : null;
      let used = "";
      const isOurs = async (der: Uint8Array) => isOwnLeaf(readCertificate(der), manager.require().state, clock.now());
      step = async () => {
        files.reload();
        await own?.renew();
        const pair = own === null ? files.loaded.pair : own.pair;
        const roots = manager.snapshot === null ? null : trustedPem(manager.snapshot.state);
        const trusted = clientCa?.kind === "self" ? roots : files.loaded.clientCa;
        const now = JSON.stringify([pair, trusted]);
        if (pair === null || (clientCa !== null && trusted === null) || now === used) return;
        server.use(pair, trusted, clientCa?.kind === "self" ? isOurs : null);
        used = now;
      };
      unsubscribe = manager.subscribe(() => wake());
      await step();
    },
    async run(signal) {
      while (!signal.aborted) {
        const pause = new AbortController();
        wake = () => pause.abort();
        signal.addEventListener("abort", wake, { once: true });
        await step().catch((error: unknown) =>
          log.error("Cannot use what there is for TLS", { reason: error instanceof Error ? error.name : "unknown" }),
        );
        await clock.sleep(POLL_MS, pause.signal);
        signal.removeEventListener("abort", wake);
      }
      unsubscribe();
    },
  };
}

/**
 * The PEM of the certificates by which TLS verifies a client's: the published roots that were not abandoned, and the
 * issuers of their leaves, so that a client need not send them along. Which of what verifies is a leaf of ours is decided
 * by the record of issuers (own-leaf.ts).
 */
function trustedPem({ roots }: CaState): string {
  const trusted = roots.filter(({ forcedOut }) => !forcedOut);
  const issuers = trusted.flatMap(({ leafIssuers }) => leafIssuers.map(({ certificate }) => certificate));
  return [...new Set([...trusted.map(({ certificate }) => certificate), ...issuers].map(pemOf))].join("");
}
