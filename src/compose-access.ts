/**
 * The part of the composition root that makes access control.
 * @module
 */
import { createAdministration, type Leaves } from "./auth/administration.ts";
import { type AuthorizerMemory, createAuthorizer, createAuthorizerMemory } from "./auth/authorizer.ts";
import { createDirectory, createDirectoryMemory, type Directory, type DirectoryMemory, watched } from "./auth/directory.ts";
import { createKeySetMemory, createKeySets, type KeySetMemory } from "./auth/jwks.ts";
import { createLogin } from "./auth/login.ts";
import { createTokenReviews } from "./auth/token-review.ts";
import type { Platform } from "./compose.ts";
import type { Settings } from "./config/settings.ts";
import type { AccessControl } from "./core/access-control.ts";
import type { AccessStore } from "./core/access-store.ts";
import { type Audit, type AuditDetail, NOBODY } from "./core/audit.ts";
import { hex } from "./core/bytes.ts";
import { leafHorizonMs } from "./core/ca/leaf-horizon.ts";
import type { CaManager } from "./core/ca/manager.ts";
import type { Policy } from "./core/ca/policy.ts";
import type { Random } from "./core/clock.ts";
import type { Sealer } from "./core/sealer.ts";
import { trustDomainOf } from "./core/spiffe/kinds.ts";
import type { AppOptions } from "./http/app.ts";

/** Consul's name for the file by which an operator who lost all tokens makes a first one again. */
const BOOTSTRAP_RESET = "acl-bootstrap-reset";
const BOOTSTRAP_SECRET = "acl-bootstrap-secret";

/** What an operator leaves in the data folder, and finds there, to make a first token. */
export function bootstrapFiles({ kept }: Platform): Pick<AppOptions, "bootstrapReset" | "bootstrapSecret"> {
  return {
    bootstrapReset() {
      const text = kept(BOOTSTRAP_RESET)?.read()?.trim() ?? "";
      return /^\d+$/.test(text) ? Number(text) : null;
    },
    bootstrapSecret() {
      const file = kept(BOOTSTRAP_SECRET);
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
  started: boolean;
}

export function createAccessMemory(random: Random): AccessMemory {
  return {
    directory: createDirectoryMemory(),
    authorizer: createAuthorizerMemory(random),
    keySets: createKeySetMemory(),
    started: false,
  };
}

export interface Access {
  readonly access: AccessControl;
  /** Loads what is stored, once there is a CA. @throws {CaError} */
  start(): Promise<void>;
  readonly started: boolean;
  /** The file with the secret for the first token; null if there was a first token, or if nothing is loaded. */
  readonly firstTokenFile: string | null;
  follow(signal: AbortSignal): Promise<void>;
  /** Reads what changed, unless the store was asked within that time. @throws {CaError} */
  freshen(maxAgeMs: number): Promise<void>;
  /** Deletes what has expired. For the replica that leads. @throws {CaError} */
  collect(): Promise<void>;
}

interface AccessParts extends Platform {
  readonly store: AccessStore;
  readonly sealer: Sealer;
  readonly manager: CaManager;
  readonly audit: Audit | null;
  readonly memory: AccessMemory;
}

/** Makes access control over a store; it is loaded with `start`. */
export function createAccess(settings: Settings, defaultPolicy: "allow" | "deny", policy: Policy, parts: AccessParts): Access {
  const { clock, random, log, sealer, store, manager, audit, memory } = parts;
  const { datacenter } = settings;
  const { maxStalenessMs } = policy;
  const clusterId = () => manager.require().state.clusterId;
  const recordSchema = () => (manager.require().state.access === null ? 1 : 2);
  const directory = createDirectory({ store, sealer, clusterId, recordSchema, clock, random, log, memory: memory.directory });
  const hosts = { hosts: settings.jwksHosts, privateHosts: settings.jwksPrivateHosts };
  const outside = { fetch: parts.fetchKeys, resolve: parts.resolve, ...hosts, clock };
  const keySets = createKeySets({ ...outside, memory: memory.keySets });
  const reviews = createTokenReviews(outside);
  const authorizer = createAuthorizer({ directory, defaultPolicy, datacenter, clock, random, maxStalenessMs, memory: memory.authorizer });
  const leaves: Leaves = {
    scope: () => ({ trustDomain: trustDomainOf(clusterId()), datacenter }),
    horizonMs: () => leafHorizonMs(manager.require(), policy),
  };
  const login = createLogin({ directory, keySets, reviews, datacenter, clock, random, maxTokens: settings.limits.tokens_per_login });
  const administrationOf = (through: Directory) => createAdministration({ directory: through, clock, random, keySets, reviews, leaves });
  const administration = administrationOf(directory);
  const access: AccessControl = {
    defaultPolicy,
    authorize: authorizer.authorize,
    administration,
    administrationFor: (before) => administrationOf(watched(directory, before)),
    login: login.login,
    logout: login.logout,
    get kek() {
      return directory.kek;
    },
    rewrap: directory.rewrap,
  };
  /** Of what nobody asked for. */
  const recorded = (action: string) => async (subject: string, detail?: AuditDetail) =>
    audit?.beforeChange({ caller: NOBODY, action, subject, outcome: "allowed", code: null, detail });
  return {
    access,
    get started() {
      return memory.started;
    },
    async start() {
      if (memory.started) return;
      await directory.start();
      if (settings.managementToken !== null)
        await access.administrationFor(recorded("initial-management")).ensureInitialManagement(settings.managementToken);
      memory.started = true;
      const file = parts.kept(BOOTSTRAP_SECRET);
      if (file === null) return;
      // Also if there was a first token: an operator who writes the reset index down needs the secret too.
      parts.secretFile(BOOTSTRAP_SECRET, () => hex(random.bytes(16)));
      if (directory.bootstrap === null)
        log.info("There is no token yet: PUT /v1/acl/bootstrap with the secret in the data folder as its token", { file: file.name });
    },
    get firstTokenFile() {
      return memory.started && directory.bootstrap === null ? (parts.kept(BOOTSTRAP_SECRET)?.name ?? null) : null;
    },
    follow: directory.follow,
    freshen: directory.freshen,
    async collect() {
      if (memory.started) await access.administrationFor(recorded("collect")).collect(await manager.confirmedTime());
    },
  };
}
