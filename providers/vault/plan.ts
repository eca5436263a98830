/**
 * What a change in Vault has to do, as data: from what was found there and the configuration, to the
 * steps in their order. Nothing here calls Vault.
 * @module
 */
import { ConfigError, ConflictError } from "../../src/core/errors.ts";
import type { ResourceOwner } from "../../src/core/ports/provider.ts";
import type { Mount, VaultConfig } from "./config.ts";
import { type FoundMount, issuersFault, type MountUse, type Purpose, placeOf } from "./mounts.ts";
import type { IssuerListing } from "./pki-api.ts";
import type { VaultRoot } from "./root.ts";
import type { TokenStatus } from "./token-renewer.ts";
import {
  type IntermediateState,
  type Server,
  sameMount,
  signsInMount,
  type VaultState,
} from "./vault-state.ts";

/** A step of a change, in the order in which `applySteps` takes it. */
export type ChangeStep =
  | { readonly kind: "use-root"; readonly root: VaultRoot }
  /** The token was denied to read whether an engine is mounted. */
  | { readonly kind: "read-mount"; readonly mount: Mount }
  | { readonly kind: "mount-pki"; readonly mount: Mount; readonly purpose: Purpose }
  /** @param beside whether there is another root in the mount. */
  | { readonly kind: "generate-root"; readonly mount: Mount; readonly beside: boolean }
  | {
      readonly kind: "keep-intermediate";
      readonly intermediate: IntermediateState;
      /** Sealed; null if Vault holds it. */
      readonly key: string | null;
    }
  /** In Vault, or, with LeafSigning "local", here. */
  | { readonly kind: "generate-key"; readonly mount: Mount }
  | { readonly kind: "generate-local-key" }
  | { readonly kind: "certify-intermediate"; readonly mount: Mount }
  | {
      readonly kind: "import-intermediate";
      readonly mount: Mount;
      /** As far as they were found; the step `mount-pki` decides otherwise. */
      readonly accessor: string | null;
      readonly isOurs: boolean;
    }
  | { readonly kind: "seal-local-key" }
  | { readonly kind: "ensure-role"; readonly mount: Mount };

/** What is done while a configuration is in use, and needs permissions as the steps of a change do. */
type StandingStep =
  | { readonly kind: "lookup-token"; readonly namespace: string }
  | { readonly kind: "renew-token"; readonly namespace: string }
  | { readonly kind: "sign-leaves"; readonly mount: Mount }
  | { readonly kind: "delete-superseded"; readonly mount: Mount }
  /** @param issuerId null: by the path of the mount, for its default issuer. */
  | { readonly kind: "cross-sign"; readonly mount: Mount; readonly issuerId: string | null };

export type Step = ChangeStep | StandingStep;

/** A PKI engine, or the path where one will be mounted. */
export interface FoundEngine {
  readonly mount: FoundMount;
  readonly issuers: readonly IssuerListing[];
}

/** What was in use before, if it is in the same Vault. */
export interface Previous {
  readonly config: VaultConfig;
  readonly state: VaultState;
  readonly root: VaultRoot | null;
  /** The sealed key of a local intermediate. */
  readonly key: string | null;
}

/** What `inspect` found. */
export interface Found {
  readonly server: Server;
  readonly previous: Previous | null;
  readonly root: FoundEngine & {
    /** The default issuer with its chain, if it is to be used. */
    readonly candidate: VaultRoot | null;
  };
  /** Null with LeafSigning "local". */
  readonly intermediate: FoundEngine | null;
}

interface PlanOptions {
  readonly owner: ResourceOwner;
  /** The store's clock. */
  readonly now: Date;
  /** Whether another root is wanted than the one in use. */
  readonly fresh: boolean;
  /** Whether no other root is wanted than the one of `previous`. @default false */
  readonly onlyPrevious?: boolean;
}

/**
 * The steps to a root and an intermediate as a configuration describes them.
 * @throws {ConfigError} if what was found does not allow it @throws {ConflictError} with
 * `onlyPrevious`, if that root is not there to be used
 */
export function planVault(found: Found, config: VaultConfig, options: PlanOptions): ChangeStep[] {
  const { previous, intermediate } = found;
  if (previous !== null) requireSameKeySpec(previous.config, config);
  const rootSteps = planRoot(found, config, options);
  const before = previous?.state.intermediate;
  const keepsLimit =
    before !== undefined &&
    before.issuerId !== null &&
    previous?.config.leafTtlMs === config.leafTtlMs &&
    sameMount(before.mount, config.intermediate);
  if (intermediate !== null && !keepsLimit) requireLeafTtlFits(config, intermediate.mount);
  const [rootStep] = rootSteps;
  const root = rootStep?.kind === "use-root" ? rootStep.root : null;
  if (previous !== null && root !== null && isKept(previous, root, found, config, options.now)) {
    const { key } = previous;
    const keep = {
      kind: "keep-intermediate",
      intermediate: previous.state.intermediate,
      key,
    } as const;
    return [...rootSteps, keep, ...(intermediate === null ? [] : [ensureRole(config)])];
  }
  const use = intermediateUse(options.owner, config, previous, "primary");
  return [...rootSteps, ...planIntermediate(intermediate, config, use)];
}

function planRoot(
  { root, previous }: Found,
  config: VaultConfig,
  { fresh, onlyPrevious = false }: PlanOptions,
): ChangeStep[] {
  const mount = rootMount(config);
  const { candidate, issuers } = root;
  if (root.mount.kind === "denied") return [{ kind: "read-mount", mount }];
  if (onlyPrevious) return [{ kind: "use-root", root: presentRoot(root, previous, mount) }];
  if (root.mount.kind === "none")
    return [
      { kind: "mount-pki", mount, purpose: "root" },
      { kind: "generate-root", mount, beside: false },
    ];
  if (candidate !== null) return [{ kind: "use-root", root: candidate }];
  const pinned = pinnedRoot(previous, mount);
  if (pinned === null) return [{ kind: "generate-root", mount, beside: false }];
  if (!fresh) return [{ kind: "use-root", root: pinned }];
  const isGone = !issuers.some(({ id }) => id === pinned.state.issuerId);
  if (!pinned.state.isOurs && !isGone) throw cannotRotate(mount, pinned);
  return [{ kind: "generate-root", mount, beside: issuers.length > 0 }];
}

/** @throws {ConflictError} if the root of `previous` is gone, or another one would be followed */
function presentRoot(
  { candidate, issuers }: Found["root"],
  previous: Previous | null,
  mount: Mount,
): VaultRoot {
  const pinned = pinnedRoot(previous, mount);
  const place = JSON.stringify(mount.path);
  if (pinned === null || !issuers.some(({ id }) => id === pinned.state.issuerId))
    throw new ConflictError(
      "transition_invalid",
      `Cannot use the root at ${place} in Vault again: its issuer is gone there; rotate to another root`,
    );
  if (candidate !== null)
    throw new ConflictError(
      "transition_invalid",
      `Cannot use the root at ${place} in Vault again: another root, not made by meshca, is the default issuer there and would be followed. Make the root the default (vault write ${mount.path}/config/issuers default=${pinned.state.issuerId})`,
    );
  return pinned;
}

/** The root in use, if it is in the mount. */
export function pinnedRoot(previous: Previous | null, mount: Mount): VaultRoot | null {
  const root = previous?.root ?? null;
  return root !== null && sameMount(root.state.mount, mount) ? root : null;
}

/**
 * The steps to a new intermediate of the root.
 * @param engine null with LeafSigning "local".
 * @throws {ConfigError} if the mount has issuers of another cluster or datacenter
 */
export function planIntermediate(
  engine: FoundEngine | null,
  config: VaultConfig,
  use: MountUse,
): ChangeStep[] {
  const certify = { kind: "certify-intermediate", mount: rootMount(config) } as const;
  return [...planKey(engine, config, use), certify, ...planImport(engine, config)];
}

/** Who uses the mount of the intermediate. @param previous null: nothing in this Vault. */
export function intermediateUse(
  { clusterId, datacenter: name }: ResourceOwner,
  { intermediate }: VaultConfig,
  previous: Pick<Previous, "state"> | null,
  datacenter: MountUse["datacenter"],
): MountUse {
  const recorded = previous !== null && signsInMount(previous.state, intermediate);
  return { owner: { clusterId, datacenter: name }, datacenter, recorded };
}

/** The steps before an intermediate is certified. @throws {ConfigError} as `planIntermediate` */
export function planKey(
  engine: FoundEngine | null,
  { intermediate: mount }: VaultConfig,
  use: MountUse,
): ChangeStep[] {
  if (engine === null) return [{ kind: "generate-local-key" }];
  requireUnshared(engine, mount, use);
  const steps: ChangeStep[] = [{ kind: "generate-key", mount }];
  if (engine.mount.kind === "denied") steps.unshift({ kind: "read-mount", mount });
  if (engine.mount.kind === "none")
    steps.unshift({ kind: "mount-pki", mount, purpose: "intermediate" });
  return steps;
}

/** The steps after an intermediate is certified. */
export function planImport(engine: FoundEngine | null, config: VaultConfig): ChangeStep[] {
  if (engine === null) return [{ kind: "seal-local-key" }];
  const { accessor, isOurs } =
    engine.mount.kind === "pki" ? engine.mount : { accessor: null, isOurs: false };
  const mount = config.intermediate;
  return [{ kind: "import-intermediate", mount, accessor, isOurs }, ensureRole(config)];
}

/**
 * The steps while a configuration is in use: among them those to later intermediates.
 * @param datacenter a secondary one has no root to certify by.
 */
export function standingSteps(
  config: VaultConfig,
  token: TokenStatus,
  datacenter: "primary" | "secondary",
): Step[] {
  const { connection, intermediate: mount, leafSigning } = config;
  const { namespace, login } = connection;
  const engine: FoundEngine = { mount: { kind: "unknown" }, issuers: [] };
  const found = leafSigning === "vault" ? engine : null;
  const steps: Step[] = [{ kind: "lookup-token", namespace }];
  // A login that cannot be renewed is followed by another one.
  if (token.renewable && login.kind === "token") steps.push({ kind: "renew-token", namespace });
  const use = { owner: { clusterId: "", datacenter: null }, datacenter, recorded: true };
  if (datacenter === "primary") steps.push(...planIntermediate(found, config, use));
  else steps.push(...planKey(found, config, use), ...planImport(found, config));
  if (leafSigning === "vault")
    steps.push({ kind: "sign-leaves", mount }, { kind: "delete-superseded", mount });
  return steps;
}

function ensureRole({ intermediate: mount }: VaultConfig): ChangeStep {
  return { kind: "ensure-role", mount };
}

/** The mount of the root. @throws {ConfigError} in a secondary datacenter */
export function rootMount({ root }: VaultConfig): Mount {
  if (root === null) throw new ConfigError("must provide a valid path to a root PKI backend");
  return root;
}

/** A restart, or a change that does not concern the intermediate, creates no new one. */
function isKept(
  { state, root: before }: Previous,
  root: VaultRoot,
  { intermediate: engine }: Found,
  config: VaultConfig,
  now: Date,
): boolean {
  const isBelow =
    before?.certificate.id === root.certificate.id && before.state.issuerId === root.state.issuerId;
  const { certificate, issuerId, keyId, mount } = state.intermediate;
  const halfLife = (certificate.notBefore.getTime() + certificate.notAfter.getTime()) / 2;
  if (!isBelow || now.getTime() > halfLife) return false;
  if (engine === null) return issuerId === null;
  return (
    sameMount(mount, config.intermediate) &&
    engine.issuers.some((issuer) => issuer.id === issuerId && issuer.keyId === keyId)
  );
}

/**
 * A lower limit of the mount would cut leaves short. A mount without one has the server's.
 * @throws {ConfigError}
 */
export function requireLeafTtlFits(
  { leafTtlMs, intermediate: { path } }: VaultConfig,
  mount: FoundMount,
): void {
  if (mount.kind !== "pki" || mount.maxLeaseTtlMs === 0 || mount.maxLeaseTtlMs >= leafTtlMs) return;
  const [wanted, limit] = [leafTtlMs, mount.maxLeaseTtlMs].map((ms) => `${Math.ceil(ms / 1000)}s`);
  throw new ConfigError(
    `error configuring provider: LeafCertTTL: ${wanted} is beyond max_lease_ttl of the mount ${JSON.stringify(path)}, which is ${limit}; raise it (vault secrets tune -max-lease-ttl=${wanted} ${path}) or configure less`,
  );
}

/** @throws {ConfigError} if the issuers in a mount are another cluster's or datacenter's */
function requireUnshared({ issuers }: FoundEngine, mount: Mount, use: MountUse): void {
  const fault = issuersFault(issuers, use);
  if (fault !== null)
    throw new ConfigError(`error configuring provider: ${placeOf(mount, "intermediate")} ${fault}`);
}

/** Consul's rule and text (agent/connect/ca/provider_vault.go, ValidateConfigUpdate). */
function requireSameKeySpec(before: VaultConfig, { keySpec, root }: VaultConfig): void {
  if (before.root === null || root === null || !sameMount(before.root, root)) return;
  const field =
    before.keySpec.type !== keySpec.type
      ? "PrivateKeyType"
      : before.keySpec.bits !== keySpec.bits
        ? "PrivateKeyBits"
        : null;
  if (field === null) return;
  const message = "the mount of the root stays, and with it the root's key";
  throw new ConfigError(
    `cannot update the ${field} field without choosing a new PKI mount for the root CA`,
    [{ field, message }],
  );
}

/** Why the root in use cannot be replaced by one that meshca makes, as a sentence; null if it can. */
export function rotationObstacle({ root, path }: VaultState): string | null {
  if (root === null || (root.isOurs && path.length === 0)) return null;
  return `The root in Vault at ${JSON.stringify(root.mount.path)} was not made by meshca: it is rotated in Vault, and followed then`;
}

function cannotRotate({ path }: Mount, { path: above, certificate }: VaultRoot): ConfigError {
  const make =
    above.length > 0
      ? `import another intermediate of the external root into ${path} (vault write ${path}/issuers/import/bundle pem_bundle=@bundle.pem)`
      : `generate another root in Vault (vault write ${path}/root/rotate/internal common_name="mesh root" uri_sans=${certificate.uris[0] ?? "spiffe://<trust domain>"})`;
  return new ConfigError(
    `Cannot rotate: the root at ${JSON.stringify(path)} was not made by meshca. To rotate, ${make}, make it the default (vault write ${path}/config/issuers default=<issuer id>), and rotate then; without that, it is adopted within some minutes`,
  );
}
