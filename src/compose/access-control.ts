/**
 * Access control of one CA: loads, records and maintains it.
 * @module
 */
import { DENYLIST_FILE, DenylistCache } from "../acl/denylist-cache.ts";
import type { AclReplica } from "../acl/replica.ts";
import type { Settings } from "../config/settings.ts";
import type { Acl, BeforeChange } from "../core/acl/ports.ts";
import { type Audit, NOBODY } from "../core/ports/audit.ts";
import { ACCESS_SCHEMA } from "../core/state.ts";
import { type AclParts, createAcl, createReplica } from "./acl.ts";
import { BootstrapFiles } from "./bootstrap-files.ts";

/** How often all records are read and verified, in milliseconds. */
const VERIFY_MS = 300_000;
/** How long records that cannot be trusted are not read again, in milliseconds. */
const REFUSED_MS = 1000;

export class AccessControl {
  readonly control: Acl;
  readonly #replica: AclReplica;
  readonly #denylistCache: DenylistCache;
  readonly #bootstrapFiles: BootstrapFiles;
  readonly #settings: Settings;
  readonly #parts: AclParts;
  /** The older replica that was logged last. */
  #awaitedReplica: string | null = null;

  constructor(settings: Settings, parts: AclParts) {
    this.#settings = settings;
    this.#parts = parts;
    const { platform } = parts;
    this.#bootstrapFiles = new BootstrapFiles(platform);
    this.#replica = createReplica(parts, () => void this.#cacheDenylist());
    this.#denylistCache = new DenylistCache(
      settings.store.kind === "redis" ? platform.persistentFile(DENYLIST_FILE) : null,
      platform.log,
    );
    this.control = createAcl(this.#replica, this.#denylistCache, settings, parts);
  }

  /** Whether the records are loaded. */
  get started(): boolean {
    return this.#parts.memory.started;
  }

  /**
   * The file with the secret for the first token; null if a first token was created, or if the
   * records are not loaded.
   */
  get firstTokenFile(): string | null {
    return this.started && this.#replica.bootstrap === null
      ? this.#bootstrapFiles.secretFile
      : null;
  }

  /**
   * Loads the records, once there is a CA. Records that cannot be trusted are no error:
   * `control.state` names the reason.
   * @throws {CaError}
   */
  async start(): Promise<void> {
    const { memory, audit } = this.#parts;
    const { managementToken } = this.#settings;
    const replica = this.#replica;
    if (this.#isHeld()) return;
    if (!memory.started) {
      // Records that cannot be trusted are read as a whole each time: not for each request.
      if (replica.state.stopped !== null) await replica.refreshIfStale(REFUSED_MS);
      else await replica.start();
      this.#createBootstrapSecret();
      memory.started = replica.state.loaded;
      await this.#cacheDenylist();
    }
    if (!memory.started || memory.ensured || replica.state.stopped !== null) return;
    if (managementToken !== null)
      await this.control
        .adminFor(recordedAs("initial-management", audit))
        .tokens.ensureInitialManagement(managementToken);
    memory.ensured = true;
  }

  /**
   * Records in the CA document which records belong to it. For the leader.
   * @throws {CaError}
   */
  async recordInCa(): Promise<void> {
    const { ca } = this.#parts;
    const replica = this.#replica;
    const { loaded, stopped } = replica.state;
    if (!loaded || stopped !== null) return;
    const recorded = ca.require().state.access;
    const known = replica.bootstrap?.value.accessorId ?? null;
    // Restored records may have roles that the CA document does not know of.
    const recordSchema = replica.roles.size > 0 ? 3 : recorded?.recordSchema;
    if (
      recorded !== null &&
      (known === null || recorded.bootstrapAccessorId === known) &&
      recorded.recordSchema === recordSchema
    )
      return;
    if (this.#awaitsOlderReplica()) return;
    await ca.recordAccess(async (before) => {
      if (before === null) await replica.writeSetDocument();
      const { keyId, bootstrap } = replica;
      const bootstrapAccessorId =
        bootstrap?.value.accessorId ?? before?.bootstrapAccessorId ?? null;
      return keyId === null ? null : { keyId, bootstrapAccessorId, recordSchema };
    });
  }

  follow(signal: AbortSignal): Promise<void> {
    return this.#isHeld()
      ? this.#parts.platform.clock.sleep(REFUSED_MS, signal)
      : this.#replica.follow(signal);
  }

  /** Reads what changed, unless the store was read within that time. @throws {CaError} */
  refreshIfStale(maxAgeMs: number): Promise<void> {
    return this.#replica.refreshIfStale(maxAgeMs);
  }

  /** Deletes expired records, and verifies all records periodically. For the leader. @throws {CaError} */
  async collect(): Promise<void> {
    const { memory, platform, audit, ca } = this.#parts;
    if (!memory.started) return;
    const now = platform.clock.now().getTime();
    if (Math.abs(now - memory.verifiedAt) >= VERIFY_MS) {
      memory.verifiedAt = now;
      // Changes that bypassed the log of writes are found only in this way.
      await this.#replica.verify();
    }
    if (this.#replica.state.stopped === null)
      await this.control.adminFor(recordedAs("collect", audit)).collect(await ca.confirmedTime());
  }

  /**
   * Whether loading waits for an operator: another replica reported that the store lost writes, and
   * the CA document may be one from before it named access control.
   */
  #isHeld(): boolean {
    const { memory, ca } = this.#parts;
    return !memory.started && ca.status.stopped !== null && ca.require().state.access === null;
  }

  /** Older replicas could not read the CA document, and write records without a set document. */
  #awaitsOlderReplica(): boolean {
    const { ca, platform } = this.#parts;
    const older = ca.status.live.find(({ schema }) => schema < ACCESS_SCHEMA);
    if (older !== undefined && this.#awaitedReplica !== older.address)
      platform.log.info(
        "The MAC over all ACL records is not required yet: a live replica runs an older version of meshca",
        { replica: older.address },
      );
    this.#awaitedReplica = older?.address ?? null;
    return older !== undefined;
  }

  /** Also if there was a first token: a bootstrap reset and a decision on a conflict need it too. */
  #createBootstrapSecret(): void {
    const { platform } = this.#parts;
    const { state, bootstrap } = this.#replica;
    this.#bootstrapFiles.createSecret(platform.random);
    const file = this.#bootstrapFiles.secretFile;
    if (file === null || !state.loaded || bootstrap !== null) return;
    if (this.#settings.managementToken === null)
      platform.log.info(
        "No ACL token exists yet: create the first one with PUT /v1/acl/bootstrap and the secret in this file as X-Consul-Token",
        { file },
      );
  }

  async #cacheDenylist(): Promise<void> {
    if (this.#replica.state.loaded) await this.#denylistCache.save(this.#replica.denylist);
  }
}

/** Records a change that no caller requested in the audit log. */
function recordedAs(action: string, audit: Audit | null): BeforeChange {
  return async (subject, detail) =>
    audit?.beforeChange({
      caller: NOBODY,
      action,
      subject,
      outcome: "allowed",
      code: null,
      detail,
    });
}
