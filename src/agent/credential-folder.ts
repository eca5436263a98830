/**
 * One identity as files in a folder (SPIFFE filesystem delivery, and the names that servers without
 * SPIFFE expect). All files change together whenever the SVID or the roots change.
 * @module
 */
import { join, resolve } from "node:path";
import type { Source } from "../client/source.ts";
import type { TrustBundle, X509Svid } from "../client/svid.ts";
import { fileReason } from "../config/file-errors.ts";
import { ConfigError, FormatError, reasonOf } from "../core/errors.ts";
import type { AgentMetrics } from "./agent-metrics.ts";
import { contentOf, FILE, trustBundleName } from "./files/content.ts";
import { FolderWriter, type FolderWriterOptions } from "./files/folder-writer.ts";
import { type Delivered, type Hook, HookRunner } from "./hook.ts";
import type { Workload } from "./workload.ts";

/** How long changes are collected before they are written: a rotation changes roots and leaf. */
const COLLECT_MS = 100;
/** How often the files are compared with what they should be, in milliseconds. */
const COMPARE_MS = 60_000;
/** The pause after a failure in milliseconds: it doubles up to a minute. */
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [1000, 60_000];

export interface CredentialFolderOptions extends FolderWriterOptions {
  readonly workload: Workload;
  readonly bundle: Source<TrustBundle>;
  readonly onChange?: Hook | null;
  readonly metrics: AgentMetrics;
}

export class CredentialFolder {
  readonly #options: CredentialFolderOptions;
  readonly #writer: FolderWriter;
  readonly #hook: HookRunner | null;
  readonly #closing = new AbortController();
  /** What the files contain; null before the first write. */
  #written: { readonly svid: X509Svid; readonly bundle: TrustBundle } | null = null;
  /** Why the last write failed; null after a success. */
  #failure: string | null = null;
  #failures = 0;
  /** Whether the SVID or the roots changed since the last write began. */
  #changed = false;
  /** The generation that the hook was asked to run for. */
  #notified: string | null = null;
  #hasLoggedExpiry = false;
  #endPause: () => void = () => undefined;
  #unsubscribe: () => void = () => undefined;
  /** Settles after `close`. */
  #running: Promise<void> = Promise.resolve();
  /** Settles when the current write has ended; it never rejects. */
  #delivering: Promise<unknown> = Promise.resolve();

  /** @throws {ConfigError} if the owner or the mode cannot be used */
  constructor(options: CredentialFolderOptions) {
    const { onChange: hook = null, log, metrics, clock } = options;
    const path = resolve(options.path);
    this.#options = { ...options, path };
    this.#writer = new FolderWriter(this.#options);
    this.#hook = hook === null ? null : new HookRunner({ hook, folder: path, log, metrics, clock });
  }

  /** Why the files are missing, not the newest ones, or expired; null if all is well. */
  get problem(): string | null {
    if (this.#failure !== null) return this.#failure;
    const { workload, bundle, clock } = this.#options;
    const { name } = this.#writer;
    const cause = workload.problem === null ? "" : `: ${workload.problem}`;
    if (this.#written === null) {
      if (workload.svid.current === null)
        return `${name} has no files yet, because ${workload.service || "the token's service"} has no certificate${cause}`;
      if (bundle.current === null)
        return `${name} has no files yet, because the roots are not known${cause}`;
      return `${name} has no files yet`;
    }
    const { notAfter } = this.#written.svid;
    if (clock.now().getTime() < notAfter.getTime()) return null;
    return `${name} has a certificate that expired at ${notAfter.toISOString()}${cause}`;
  }

  /** Why the hook failed the last time; null without a hook, or after a success. */
  get hookProblem(): string | null {
    return this.#hook?.problem ?? null;
  }

  /**
   * Checks the folder, and writes the files if there are an SVID and roots; otherwise they are written
   * as soon as there are. A write that fails is retried, and is the `problem` until it succeeds.
   * @throws {ConfigError} if the folder cannot be used as it is
   */
  async start(): Promise<void> {
    const { workload, bundle } = this.#options;
    const changed = () => {
      this.#changed = true;
      this.#endPause();
    };
    const unsubscribes = [workload.svid.subscribe(changed), bundle.subscribe(changed)];
    this.#unsubscribe = () => {
      for (const unsubscribe of unsubscribes) unsubscribe();
    };
    const refusal = await this.#deliver();
    if (refusal !== null) {
      await this.close();
      throw refusal;
    }
    this.#running = this.#run();
  }

  /** Resolves when the current write has ended and the hook has run once for the newest files. */
  async settled(): Promise<void> {
    await this.#delivering;
    await this.#hook?.attempted;
  }

  /** Ends the hook if it runs, and unlocks the folder. The files stay. */
  async close(): Promise<void> {
    this.#unsubscribe();
    this.#closing.abort();
    this.#endPause();
    await this.#running;
    await this.#hook?.close();
    await this.#writer.close();
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      if (!this.#changed) {
        const pause = new AbortController();
        this.#endPause = () => pause.abort();
        const backoff = FIRST_PAUSE_MS * 2 ** (this.#failures - 1);
        const pauseMs = this.#failures === 0 ? COMPARE_MS : Math.min(LONGEST_PAUSE_MS, backoff);
        await clock.sleep(pauseMs, pause.signal);
      }
      if (this.#changed) await clock.sleep(COLLECT_MS, signal);
      if (!signal.aborted) await this.#deliver();
    }
  }

  /** Puts in place what is not yet. Never rejects. @returns why the folder is refused, or null */
  #deliver(): Promise<ConfigError | null> {
    const delivering = this.#tryDeliver();
    this.#delivering = delivering;
    return delivering;
  }

  async #tryDeliver(): Promise<ConfigError | null> {
    const { workload, bundle, path, log, metrics } = this.#options;
    this.#changed = false;
    try {
      await this.#writer.open();
      const [svid, roots] = [workload.svid.current, bundle.current];
      if (svid !== null && roots !== null) await this.#write(svid, roots);
      else this.#logExpiry();
      if (this.#failure !== null)
        log.info("A credential folder can be written again", { folder: path });
      this.#failure = null;
      this.#failures = 0;
      return null;
    } catch (error) {
      const before = this.#failure;
      this.#failure = this.#failureOf(error);
      this.#failures += 1;
      metrics.delivered("files", "failed");
      if (this.#failure !== before)
        log.error("Failed to write a credential folder; will retry", {
          folder: path,
          reason: this.#failure,
        });
      return error instanceof ConfigError ? error : null;
    }
  }

  async #write(svid: X509Svid, bundle: TrustBundle): Promise<void> {
    const { path: folder, log, metrics } = this.#options;
    const { generation, isNew } = await this.#writer.write(contentOf(svid, bundle));
    const { spiffeId, serialNumber: serial } = svid;
    const fields = { folder, spiffeId, serial, until: svid.notAfter.toISOString() };
    const before = this.#written;
    if (isNew) metrics.delivered("files", "ok");
    if (isNew && before?.svid === svid && before.bundle === bundle)
      log.warn("Files of a credential folder were changed or deleted; wrote them again", fields);
    else if (isNew) log.info("Wrote the files of a credential folder", fields);
    else if (before === null) log.info("The files of a credential folder are up to date", fields);
    this.#written = { svid, bundle };
    this.#hasLoggedExpiry = false;
    await this.#notify(generation, svid, bundle);
  }

  /** Runs the hook once for each generation, and again after a restart if it did not succeed. */
  async #notify(generation: string, svid: X509Svid, bundle: TrustBundle): Promise<void> {
    if (this.#hook === null || this.#notified === generation) return;
    this.#notified = generation;
    if (await this.#writer.isDelivered(generation)) return;
    const { path: folder, workload } = this.#options;
    const at = (name: string) => join(folder, name);
    const delivered: Delivered = {
      ...{ folder, spiffeId: svid.spiffeId, service: workload.service },
      files: {
        bundle: at(FILE.bundle),
        chain: at(FILE.chain),
        key: at(FILE.key),
        roots: at(FILE.roots),
        combined: at(FILE.combined),
        trustBundle: at(trustBundleName(bundle.trustDomain)),
      },
    };
    this.#hook.request(delivered, () => this.#writer.markDelivered(generation));
  }

  #logExpiry(): void {
    const svid = this.#written?.svid ?? null;
    const { workload, path, log, clock } = this.#options;
    if (svid === null || this.#hasLoggedExpiry) return;
    if (clock.now().getTime() < svid.notAfter.getTime()) return;
    this.#hasLoggedExpiry = true;
    log.error("The certificate in a credential folder expired; its files stay in place", {
      folder: path,
      spiffeId: svid.spiffeId,
      notAfter: svid.notAfter.toISOString(),
      reason: workload.problem,
    });
  }

  #failureOf(error: unknown): string {
    if (error instanceof ConfigError) return error.message;
    const reason =
      error instanceof FormatError ? error.message : (fileReason(error) ?? reasonOf(error));
    const serial = this.#written?.svid.serialNumber ?? null;
    const rest = serial === null ? "" : `; the files of certificate ${serial} stay`;
    return `${this.#writer.name} cannot be written: ${reason}${rest}`;
  }
}
