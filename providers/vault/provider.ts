/**
 * The Vault provider: the root in Vault's or OpenBao's PKI engine. Leaves are signed there, or here
 * by an intermediate whose key is sealed with the CA's state. It never writes the store.
 * @module
 */

import { NotReadyError } from "../../src/core/errors.ts";
import type { Clock } from "../../src/core/ports/clock.ts";
import type {
  CollectRequest,
  CrossSigner,
  ExternalResources,
  Inspection,
  Provider,
  ProviderContext,
  ProviderHealth,
  ProviderType,
} from "../../src/core/ports/provider.ts";
import type { ProviderState } from "../../src/core/state.ts";
import type { Certificate } from "../../src/core/x509/certificate.ts";
import { caHash, caScheme, keyAlgorithm } from "../../src/core/x509/keys.ts";
import { createLeafTemplate } from "../../src/core/x509/leaf.ts";
import { type Absence, createAvailability, isObstacle } from "./circuit-breaker.ts";
import type { IssuerListing, Mount, VaultClient } from "./client.ts";
import { VAULT_SECRET_FIELDS, type VaultConfig } from "./config.ts";
import { configOf, parseSent, type SentVaultConfig } from "./config-secrets.ts";
import { crossSignInVault, requireCrossSigning } from "./crosssign.ts";
import { VaultError } from "./errors.ts";
import { certifyOther, purposeOf } from "./intermediate.ts";
import { CLOCK_MS, signInVault } from "./leaf.ts";
import { isOurName, sweep } from "./mounts.ts";
import { type Connect, prepare, renew, requestIntermediate, withClient } from "./prepare.ts";
import { ensureRole, roleFields } from "./role.ts";
import type { VaultRoot } from "./root.ts";
import { type Facts, litterOf, readFacts, requireRoot, writeFacts } from "./vault-state.ts";

const NAME = "vault";

export interface VaultProviderOptions {
  /** Makes a client; it asks nothing before its first call. */
  readonly connect: Connect;
  readonly clock: Clock;
}

/** Makes the Vault provider's type. */
export function createVaultProvider({
  connect,
  clock,
}: VaultProviderOptions): ProviderType<SentVaultConfig> {
  return {
    name: NAME,
    rootName: "Vault CA Primary Cert",
    secretFields: VAULT_SECRET_FIELDS,
    parse: parseSent,
    prepare: (config, request, context) => prepare(connect, config, request, context),
    renew: (config, request, context) => renew(connect, config, request, context),
    requestIntermediate: (config, request, context) =>
      requestIntermediate(connect, config, request, context),
    open: (config, state, root, context) => open(connect, clock, { config, state, root }, context),
    // Whether a root can be rotated here is a question of who made it, which its state knows.
    rotateObstacle: () => null,
    issuerOf: (state) => readFacts(state).intermediate.certificate,
    garbage: {
      dueAt(state) {
        const dates = readFacts(state).litter.map(({ after }) => after.getTime());
        return dates.length === 0 ? null : new Date(Math.min(...dates));
      },
      collect: (config, request, context) => collect(connect, config, request, context),
      garbageOf(state, after) {
        const facts = readFacts(state);
        const litter = litterOf(facts, after);
        if (litter.length === 0) return null;
        const { secrets } = state;
        const left = {
          ...facts,
          intermediate: { ...facts.intermediate, issuerId: null, keyId: null },
          litter,
        };
        return { ...(secrets === undefined ? {} : { secrets }), facts: writeFacts(left) };
      },
    },
  };
}

async function collect(
  connect: Connect,
  stored: SentVaultConfig,
  { state, others, now, requireLease }: CollectRequest,
  context: ProviderContext,
) {
  const config = await configOf(stored, state, context);
  const facts = readFacts(state);
  const inUse = others.map(readFacts);
  const litter = await withClient(connect, config.connection, (client) =>
    sweep(client, facts, inUse, { clusterId: context.clusterId, now, beforeEach: requireLease }),
  );
  return { ...state, facts: writeFacts({ ...facts, litter }) };
}

interface Opening {
  readonly config: SentVaultConfig;
  readonly state: ProviderState;
  readonly root: Certificate;
}

async function open(
  connect: Connect,
  clock: Clock,
  { config: stored, state, root }: Opening,
  context: ProviderContext,
): Promise<Provider> {
  const config = await configOf(stored, state, context);
  const facts = readFacts(state);
  const { certificate: issuer, issuerId, mount } = facts.intermediate;
  const client = connect(config.connection);
  const vault = createAvailability(client, clock);
  const scheme = caScheme(issuer.key, "SHA-256");
  const { key } = state;
  const privateKey =
    key === undefined
      ? null
      : await context.sealer.openKey(
          key,
          purposeOf(issuer.key, context.clusterId),
          keyAlgorithm(issuer.key, caHash(issuer.key)),
        );

  let inFlight = 0;
  let closed = false;
  let cutShort: Date | null = null;
  let rootGone: Date | null = null;
  let fileFaults: readonly string[] = [];
  const ended = Promise.withResolvers<void>();
  /** A token that it logged in for does not outlive it. */
  const end = () =>
    client
      .revoke()
      .catch(() => undefined)
      .then(client.close)
      .then(ended.resolve);
  /**
   * What is under way when this is closed ends by itself; what comes later, a leaf that was
   * prepared before, has a client of its own.
   */
  const use = async <T>(work: (open: VaultClient) => Promise<T>): Promise<T> => {
    if (closed) return withClient(connect, config.connection, work);
    inFlight++;
    try {
      return await work(client);
    } finally {
      inFlight--;
      if (closed && inFlight === 0) void end();
    }
  };

  const signLeaf: Provider["signLeaf"] = async (draft, csr) => {
    if (privateKey !== null) {
      const der = draft.complete(
        new Uint8Array(await crypto.subtle.sign(scheme.params, privateKey, draft.signed)),
      );
      const { serial, notBefore, notAfter } = draft.fields;
      return { der, serial, notBefore, notAfter };
    }
    if (issuerId === null)
      throw new NotReadyError(
        "ca_uninitialized",
        "CA is uninitialized: the root was left, and signs no leaves",
      );
    const ask = (open: VaultClient) => {
      const sign = () =>
        signInVault(open, { mount, issuerId, certificate: issuer }, draft.fields, csr, clock.now());
      return sign().catch((error: unknown) => withRole(error, open, config, context, sign));
    };
    const leaf = await vault.call(() => use(ask));
    const isShort = leaf.notAfter.getTime() < draft.fields.notAfter.getTime() - 2 * CLOCK_MS;
    cutShort = isShort ? (cutShort ?? clock.now()) : null;
    return leaf;
  };

  const crossSigner: CrossSigner = {
    requirePermission: () => use((open) => requireCrossSigning(open, requireRoot(facts))),
    async crossSign(other, now, until) {
      const own = rootOf(root, facts);
      return use((open) =>
        crossSignInVault(open, own, other, { now, until, random: context.random }),
      );
    },
    async signIntermediate(csr, now) {
      const { clusterId, sealer, random } = context;
      const work = {
        clusterId,
        sealer,
        random,
        now,
        onAbandon: () => undefined,
        warn: () => undefined,
      };
      const own = rootOf(root, facts);
      return use((open) => certifyOther({ ...work, client: open }, config, own, csr));
    },
  };

  const external: ExternalResources = {
    get health() {
      const { obstacle, notes } = healthOf(vault.absence, client, config, issuer, clock.now());
      const files = fileFaults.map(
        (fault) => `a file of the configuration cannot be used: ${fault}`,
      );
      const more = [
        files,
        cutShort === null ? [] : cutShortNote(cutShort, mount),
        rootGone === null ? [] : rootGoneNote(rootGone, issuer),
      ];
      return { obstacle, notes: [...notes, ...more.flat()] };
    },
    async probe() {
      if (closed) return;
      fileFaults = client.fileFaults;
      await use(vault.probe);
    },
    async inspect() {
      const { rootGone: isGone, ...found } = await vault.look(() =>
        use((open) => inspectIn(open, facts, context.clusterId)),
      );
      rootGone = isGone ? (rootGone ?? clock.now()) : null;
      return found;
    },
  };

  return {
    issuer,
    issuerChain: [issuer, ...facts.path],
    template: createLeafTemplate(issuer, scheme),
    remote: privateKey === null,
    crossSigner: facts.root === null ? null : crossSigner,
    external,
    signLeaf,
    close() {
      if (!closed && inFlight === 0) void end();
      closed = true;
      return ended.promise;
    },
  };
}

/** @throws {ProviderError} in a secondary datacenter */
function rootOf(certificate: Certificate, facts: Facts): VaultRoot {
  return { certificate, facts: requireRoot(facts), path: facts.path };
}

/** Somebody deleted the role: it is made anew, once. */
async function withRole(
  error: unknown,
  client: VaultClient,
  config: VaultConfig,
  { clusterId }: ProviderContext,
  again: () => Promise<Certificate>,
): Promise<Certificate> {
  if (!(error instanceof VaultError) || error.reason !== "role_missing") throw error;
  await ensureRole(
    client,
    config.intermediate,
    roleFields(clusterId, config.leafTtlMs),
    () => undefined,
  );
  return again();
}

function healthOf(
  absence: Absence | null,
  { token }: VaultClient,
  config: VaultConfig,
  issuer: Certificate,
  now: Date,
): ProviderHealth {
  const notes: string[] = [];
  if (absence !== null) {
    const consequence =
      config.leafSigning === "vault"
        ? "no leaf can be signed"
        : `leaves are signed here, by an intermediate that ends at ${issuer.notAfter.toISOString()}`;
    notes.push(
      `away since ${absence.since.toISOString()}: ${absence.error.message}; ${consequence}`,
    );
  }
  if (token.failure !== null)
    notes.push(
      `the token cannot be renewed since ${token.failure.since.toISOString()}: ${token.failure.message}${token.expiresAt === null ? "" : `; it ends at ${token.expiresAt.toISOString()}`}`,
    );
  else if (
    !token.renewable &&
    token.expiresAt !== null &&
    config.connection.login.kind !== "method"
  )
    notes.push(`the token cannot be renewed and ends at ${token.expiresAt.toISOString()}`);
  const obstacle =
    absence !== null && config.leafSigning === "vault" && isObstacle(absence, now)
      ? `${absence.error.message}, since ${absence.since.toISOString()}`
      : null;
  return { obstacle, notes };
}

function cutShortNote(since: Date, { path }: Mount): string {
  return `leaves end sooner than LeafCertTTL says since ${since.toISOString()}: the mount ${JSON.stringify(path)} or its role in Vault has a lower limit`;
}

function rootGoneNote(since: Date, { notAfter }: Certificate): string {
  return `the root's issuer is gone from Vault, which was noticed at ${since.toISOString()}: what signs leaves ends at ${notAfter.toISOString()} and cannot be renewed; PUT /v1/connect/ca/rotate with {"ForceWithoutCrossSigning": true} makes another root`;
}

async function inspectIn(
  client: VaultClient,
  { root, intermediate }: Facts,
  clusterId: string,
): Promise<Inspection & { readonly rootGone: boolean }> {
  const issuers = root === null ? [] : await issuersIn(client, root.mount);
  const current = issuers.find(({ isDefault }) => isDefault);
  const rootReplaced =
    current !== undefined && current.id !== root?.issuerId && !isOurName(current.name, clusterId);
  const rootGone = root !== null && !issuers.some(({ id }) => id === root.issuerId);
  return { rootReplaced, rootGone, issuerLost: await isLost(client, intermediate) };
}

async function isLost(
  client: VaultClient,
  { mount, issuerId, keyId }: Facts["intermediate"],
): Promise<boolean> {
  if (issuerId === null) return false;
  return !(await issuersIn(client, mount)).some(
    (issuer) => issuer.id === issuerId && issuer.keyId === keyId,
  );
}

/**
 * None where nothing is mounted. Anybody may list them: who is denied was answered for a path
 * without a mount, unless something else refuses it.
 */
async function issuersIn(client: VaultClient, mount: Mount): Promise<readonly IssuerListing[]> {
  try {
    return await client.listIssuers(mount);
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    if (
      error.reason === "mount_missing" ||
      (error.reason === "denied" && (await client.readMount(mount)) === null)
    )
      return [];
    throw error;
  }
}
