/**
 * The part of the composition root that makes access control.
 * @module
 */
import { createAdministration, type Leaves } from "../acl/admin.ts";
import { SEEN_DENIALS, SeenDenials } from "../acl/denylist-cache.ts";
import {
  createDirectory,
  createDirectoryMemory,
  type Directory,
  type DirectoryMemory,
} from "../acl/directory.ts";
import { createKeySetMemory, createKeySets, type KeySetMemory } from "../acl/jwks.ts";
import { Login } from "../acl/login.ts";
import {
  type AuthorizerMemory,
  createAuthorizer,
  createAuthorizerMemory,
} from "../acl/token-authorizer.ts";
import { createTokenReviews } from "../acl/token-review.ts";
import type { Settings } from "../config/settings.ts";
import type { AccessControl } from "../core/acl/access-control.ts";
import type { Administration } from "../core/acl/admin.ts";
import { hex } from "../core/bytes.ts";
import type { CaManager } from "../core/ca/ca.ts";
import { leafHorizonMs } from "../core/ca/leaf-horizon.ts";
import type { Policy } from "../core/ca/policy.ts";
import { type Audit, type AuditDetail, NOBODY } from "../core/ports/audit.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { AclLastSeenStore } from "../core/ports/last-seen.ts";
import type { AccessStore } from "../core/ports/record-store.ts";
import type { Replica } from "../core/ports/replicas.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { trustDomainOf } from "../core/spiffe/id.ts";
import { SCHEMA } from "../core/state.ts";
import type { AppOptions } from "../http/app.ts";
import type { Platform } from "./platform.ts";

/** Consul's name for the file by which an operator who lost all tokens makes a first one again. */
const BOOTSTRAP_RESET = "acl-bootstrap-reset";
const BOOTSTRAP_SECRET = "acl-bootstrap-secret";

/** What an operator leaves in the data folder, and finds there, to make a first token. */
export function bootstrapFiles(
  { persistentFile }: Platform,
  { managementToken }: Pick<Settings, "managementToken">,
): Pick<AppOptions, "bootstrapReset" | "bootstrapSecret" | "managementToken"> {
  return {
    managementToken,
    bootstrapReset() {
      const text = persistentFile(BOOTSTRAP_RESET)?.read()?.trim() ?? "";
      return /^\d+$/.test(text) ? Number(text) : null;
    },
    bootstrapSecret() {
      const file = persistentFile(BOOTSTRAP_SECRET);
      const secret = file?.read()?.trim() ?? "";
      // An empty file is no secret that a caller could know.
      return file === null || secret === "" ? null : { secret, file: file.name };
    },
  };
}

/** What access control knows from one request to the next: data alone. */
export interface AccessMemory {
  readonly directory: DirectoryMemory;
  readonly authorizer: AuthorizerMemory;
  readonly keySets: KeySetMemory;
  /**
   * Whether a set is in force, and whether the configured management token was looked for in it.
   */
  started: boolean;
  ensured: boolean;
  /** When all that is stored was checked last, in milliseconds since 1970. */
  verifiedAt: number;
}

export function createAccessMemory(random: Random): AccessMemory {
  return {
    directory: createDirectoryMemory(),
    authorizer: createAuthorizerMemory(random),
    keySets: createKeySetMemory(),
    started: false,
    ensured: false,
    verifiedAt: 0,
  };
}

export interface Access {
  readonly access: AccessControl;
  /**
   * Loads what is stored, once there is a CA. What cannot be trusted is no error: `access.state`
   * says so.
   * @throws {CaError}
   */
  start(): Promise<void>;
  /**
   * Records in the CA document what it is to know of access control. For the replica that leads.
   * @throws {CaError}
   */
  record(): Promise<void>;
  readonly started: boolean;
  /**
   * The file with the secret for the first token; null if there was a first token, or if nothing is
   * loaded.
   */
  readonly firstTokenFile: string | null;
  follow(signal: AbortSignal): Promise<void>;
  /** Reads what changed, unless the store was asked within that time. @throws {CaError} */
  freshen(maxAgeMs: number): Promise<void>;
  /**
   * Deletes what has expired, and now and then checks all that is stored. For the replica that
   * leads.
   * @throws {CaError}
   */
  collect(): Promise<void>;
}

interface AccessParts extends Platform {
  readonly store: AccessStore;
  readonly sealer: Sealer;
  readonly manager: CaManager;
  readonly audit: Audit | null;
  readonly memory: AccessMemory;
  readonly recollection: AclLastSeenStore | null;
  readonly self: Pick<Replica, "address">;
}

/**
 * How often all that is stored is read and checked, in milliseconds: what was changed behind the
 * log of writes shows only so.
 */
const VERIFY_MS = 300_000;
/** How often what is refused is looked at again by those who ask, in milliseconds. */
const REFUSED_MS = 1000;

/** Makes access control over a store; it is loaded with `start`. */
export function createAccess(
  settings: Settings,
  defaultPolicy: "allow" | "deny",
  policy: Policy,
  parts: AccessParts,
): Access {
  const { clock, random, log, sealer, store, manager, audit, memory } = parts;
  const { datacenter } = settings;
  const { maxStalenessMs } = policy;
  const clusterId = () => manager.require().state.clusterId;
  const directory = createDirectory({
    store,
    sealer,
    clusterId,
    trust: () => manager.require().state.access,
    refreshTrust: manager.refresh,
    record: async (next) => void (await manager.recordAccess(async () => next)),
    recollection: parts.recollection,
    address: parts.self.address,
    clock,
    random,
    log,
    memory: memory.directory,
  });
  const hosts = { hosts: settings.jwksHosts, privateHosts: settings.jwksPrivateHosts };
  const outside = { fetch: parts.fetchKeys, resolve: parts.resolve, ...hosts, clock };
  const keySets = createKeySets({ ...outside, memory: memory.keySets });
  const reviews = createTokenReviews(outside);
  const authorizer = createAuthorizer({
    directory,
    defaultPolicy,
    datacenter,
    clock,
    random,
    maxStalenessMs,
    memory: memory.authorizer,
  });
  const leaves: Leaves = {
    scope: () => ({ trustDomain: trustDomainOf(clusterId()), datacenter }),
    horizonMs: () => leafHorizonMs(manager.require(), policy),
  };
  const login = new Login({
    directory,
    keySets,
    reviews,
    datacenter,
    clock,
    random,
    maxTokens: settings.limits.tokens_per_login,
  });
  // An end that is counted from a clock behind the store's would be over too soon, by the store's
  // clock.
  const later: Clock = {
    ...clock,
    now: () => new Date(clock.now().getTime() + Math.max(0, manager.status.clockOffsetMs)),
  };
  const administrationOf = (through: Directory) =>
    createAdministration({ directory: through, clock: later, random, keySets, reviews, leaves });
  const seenDenials = new SeenDenials(
    settings.store.kind === "redis" ? parts.persistentFile(SEEN_DENIALS) : null,
    log,
  );
  const keepDenials = () =>
    directory.state.loaded ? seenDenials.keep(directory.denials) : Promise.resolve();
  directory.subscribe(() => void keepDenials());
  const loaded = administrationOf(directory);
  const administration: Administration = {
    ...loaded,
    denialOf: (subject) =>
      directory.state.loaded ? loaded.denialOf(subject) : seenDenials.denialOf(subject),
  };
  const access: AccessControl = {
    defaultPolicy,
    authorize: authorizer.authorize,
    administration,
    administrationFor: (before) => administrationOf(directory.watched(before)),
    login: (request, before) => login.login(request, before),
    logout: (secret, before) => login.logout(secret, before),
    get kek() {
      return directory.kek;
    },
    rewrap: (before) => directory.rewrap(before),
    get state() {
      return directory.state;
    },
    conflict: () => directory.conflict(),
    resolve: (keep, before) => directory.resolve(keep, before),
  };
  /** The older replica that the log has named. */
  let awaited: string | null = null;
  const record = async (): Promise<void> => {
    const { loaded, stopped } = directory.state;
    const recorded = manager.require().state.access;
    const known = directory.bootstrap?.value.accessorId ?? null;
    if (
      !loaded ||
      stopped !== null ||
      (recorded !== null && (known === null || recorded.bootstrapAccessorId === known))
    )
      return;
    // Older replicas could not read the CA document then, and write records without a set document.
    const older = manager.status.live.find(({ schema }) => schema < SCHEMA);
    if (older !== undefined && awaited !== older.address)
      log.info(
        "The MAC over all records of access control is not required yet: a live replica runs an older version of meshca",
        {
          replica: older.address,
        },
      );
    awaited = older?.address ?? null;
    if (older !== undefined) return;
    await manager.recordAccess(async (before) => {
      if (before === null) await directory.seal();
      const { keyId, bootstrap } = directory;
      return keyId === null
        ? null
        : {
            keyId,
            bootstrapAccessorId: bootstrap?.value.accessorId ?? before?.bootstrapAccessorId ?? null,
          };
    });
  };
  const makeSecret = () => {
    const file = parts.persistentFile(BOOTSTRAP_SECRET);
    if (file === null) return;
    // Also if there was a first token: an operator who writes the reset index down, or decides on a
    // set, needs it too.
    parts.readSecretFile(BOOTSTRAP_SECRET, () => hex(random.bytes(16)));
    if (directory.state.loaded && directory.bootstrap === null && settings.managementToken === null)
      log.info(
        "There is no token yet: PUT /v1/acl/bootstrap with the secret in the data folder as its token",
        { file: file.name },
      );
  };
  /**
   * Whether nothing is to be loaded yet: the CA document may be an older one, from before it named
   * access control. Another replica says that the store lost writes, and an operator has to decide
   * about the CA first.
   */
  const isHeld = () =>
    !memory.started && manager.status.stopped !== null && manager.require().state.access === null;
  /** Of what nobody asked for. */
  const recorded = (action: string) => async (subject: string, detail?: AuditDetail) =>
    audit?.beforeChange({
      caller: NOBODY,
      action,
      subject,
      outcome: "allowed",
      code: null,
      detail,
    });
  return {
    access,
    get started() {
      return memory.started;
    },
    async start() {
      if (isHeld()) return;
      if (!memory.started) {
        // What is refused is read as a whole each time: not for each request.
        if (directory.state.stopped !== null) await directory.freshen(REFUSED_MS);
        else await directory.start();
        makeSecret();
        memory.started = directory.state.loaded;
        await keepDenials();
      }
      if (!memory.started || memory.ensured || directory.state.stopped !== null) return;
      if (settings.managementToken !== null)
        await access
          .administrationFor(recorded("initial-management"))
          .ensureInitialManagement(settings.managementToken);
      memory.ensured = true;
    },
    get firstTokenFile() {
      return memory.started && directory.bootstrap === null
        ? (parts.persistentFile(BOOTSTRAP_SECRET)?.name ?? null)
        : null;
    },
    record,
    follow: (signal) => (isHeld() ? clock.sleep(REFUSED_MS, signal) : directory.follow(signal)),
    freshen: (maxAgeMs) => directory.freshen(maxAgeMs),
    async collect() {
      if (!memory.started) return;
      const now = clock.now().getTime();
      if (Math.abs(now - memory.verifiedAt) >= VERIFY_MS) {
        memory.verifiedAt = now;
        await directory.verify();
      }
      if (directory.state.stopped === null)
        await access.administrationFor(recorded("collect")).collect(await manager.confirmedTime());
    },
  };
}
