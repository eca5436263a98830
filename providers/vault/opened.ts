/**
 * An opened Vault provider: signs leaves and certifies CAs with one client, whose token is revoked
 * when the provider is closed.
 * @module
 */
import { NotReadyError } from "../../src/core/errors.ts";
import type { Examination } from "../../src/core/ports/examination.ts";
import type {
  CrossSigner,
  ExternalResources,
  Inspection,
  LeafLimits,
  Provider,
  ProviderContext,
  ProviderHealth,
  SignedLeaf,
} from "../../src/core/ports/provider.ts";
import type { ProviderState } from "../../src/core/state.ts";
import { signingUri } from "../../src/core/x509/authority.ts";
import { readCaRequest } from "../../src/core/x509/ca-request.ts";
import type { Certificate } from "../../src/core/x509/certificate.ts";
import { caHash, caScheme, keyAlgorithm, type SignatureScheme } from "../../src/core/x509/keys.ts";
import { type LeafDraft, LeafTemplate, LOCAL_LEAF_LIMITS } from "../../src/core/x509/leaf.ts";
import { CircuitBreaker } from "./circuit-breaker.ts";
import type { VaultConfig } from "./config.ts";
import { openConfig, type SentVaultConfig } from "./config-secrets.ts";
import { type VaultProviderOptions, withClient } from "./context.ts";
import { crossSignInVault, requireCrossSigning } from "./cross-sign.ts";
import { failedBy, forCaller, VaultError } from "./errors.ts";
import { examineVault } from "./examine.ts";
import { type Findings, healthOf } from "./health.ts";
import { inspectPresence } from "./inspect.ts";
import { certifyIntermediate, purposeOf } from "./intermediate.ts";
import { type LeafIssuer, signInVault } from "./leaf.ts";
import { CLOCK_MS, VAULT_LEAF_LIMITS } from "./limits.ts";
import type { PkiApi } from "./pki-api.ts";
import { ensureRole, roleDifference, roleFields } from "./role.ts";
import type { VaultRoot } from "./root.ts";
import { readState, requireRoot, type VaultState } from "./vault-state.ts";

/** Opens a committed state; it calls nothing outside. @throws {SealError} @throws {ProviderError} */
export async function openProvider(
  options: VaultProviderOptions,
  stored: SentVaultConfig,
  state: ProviderState,
  root: Certificate,
  context: ProviderContext,
): Promise<Provider> {
  const config = await openConfig(stored, state, context);
  const vault = readState(state);
  const { key } = vault.intermediate.certificate;
  const privateKey =
    state.key === undefined
      ? null
      : await context.sealer.openKey(
          state.key,
          purposeOf(key, context.clusterId),
          keyAlgorithm(key, caHash(key)),
        );
  return new OpenedProvider({ ...options, config, state: vault, root, privateKey, context });
}

interface Opened extends VaultProviderOptions {
  readonly config: VaultConfig;
  readonly state: VaultState;
  readonly root: Certificate;
  /** Null if Vault signs leaves. */
  readonly privateKey: CryptoKey | null;
  readonly context: ProviderContext;
}

class OpenedProvider implements Provider, CrossSigner, ExternalResources {
  readonly issuer: Certificate;
  readonly issuerChain: readonly Certificate[];
  readonly template: LeafTemplate;
  readonly remote: boolean;
  readonly leafLimits: LeafLimits;
  readonly crossSigner: CrossSigner | null;
  readonly external: ExternalResources = this;
  readonly #opened: Opened;
  readonly #scheme: SignatureScheme;
  readonly #api: PkiApi;
  readonly #breaker: CircuitBreaker;
  readonly #ended = Promise.withResolvers<void>();
  #findings: Findings = { fileFaults: [], cutSince: null, rootLostSince: null };
  #running = 0;
  #isClosed = false;

  constructor(opened: Opened) {
    const { config, state, privateKey, connect, clock } = opened;
    this.#opened = opened;
    this.issuer = state.intermediate.certificate;
    this.issuerChain = [this.issuer, ...state.path];
    this.#scheme = caScheme(this.issuer.key, "SHA-256");
    this.template = new LeafTemplate(this.issuer, this.#scheme);
    this.remote = privateKey === null;
    this.leafLimits = this.remote ? VAULT_LEAF_LIMITS : LOCAL_LEAF_LIMITS;
    this.crossSigner = state.root === null ? null : this;
    this.#api = connect(config.connection);
    this.#breaker = new CircuitBreaker(this.#api, clock);
  }

  async signLeaf(draft: LeafDraft, csr: string): Promise<SignedLeaf> {
    const { privateKey, state, clock } = this.#opened;
    if (privateKey !== null) {
      const signature = await crypto.subtle.sign(this.#scheme.params, privateKey, draft.signed);
      const { serial, notBefore, notAfter } = draft.fields;
      return { der: draft.complete(new Uint8Array(signature)), serial, notBefore, notAfter };
    }
    const { issuerId, mount, certificate } = state.intermediate;
    if (issuerId === null)
      throw new NotReadyError(
        "ca_uninitialized",
        "CA is uninitialized: the root was abandoned, and signs no leaves",
      );
    const issuer = { mount, issuerId, certificate };
    const leaf = await this.#breaker
      .call(() => this.#use((api) => this.#signInVault(api, issuer, draft, csr)))
      .catch((error: unknown) => {
        throw forCaller(error);
      });
    const isCut = leaf.notAfter.getTime() < draft.fields.notAfter.getTime() - 2 * CLOCK_MS;
    this.#note({ cutSince: isCut ? (this.#findings.cutSince ?? clock.now()) : null });
    return leaf;
  }

  async requirePermission(): Promise<void> {
    await this.#use((api) => requireCrossSigning(api, requireRoot(this.#opened.state)));
  }

  async crossSign(other: Certificate, now: Date, until: Date): Promise<readonly Certificate[]> {
    const { random } = this.#opened.context;
    const own = this.#root();
    return this.#use((api) => crossSignInVault(api, own, other, { now, until, random }));
  }

  async signIntermediate(csr: string, now: Date): Promise<readonly Certificate[]> {
    const { config, context } = this.#opened;
    const { trustDomain } = context;
    const own = this.#root();
    const { key: info } = await readCaRequest(csr, signingUri(context));
    const certificate = await this.#use((api) =>
      certifyIntermediate({ api, trustDomain, now, warn: () => undefined }, config, own, {
        csr,
        info,
      }),
    );
    return [certificate, ...own.path];
  }

  get health(): ProviderHealth {
    const { config, state, clock } = this.#opened;
    const { outage } = this.#breaker;
    const { token } = this.#api;
    return healthOf({ ...this.#findings, outage, token }, config, state, clock.now());
  }

  async probe(): Promise<void> {
    if (this.#isClosed) return;
    this.#note({ fileFaults: this.#api.fileFaults });
    await this.#use(() => this.#breaker.probe());
  }

  async inspect(): Promise<Inspection> {
    const { state, context, clock } = this.#opened;
    const { rootLost, ...inspection } = await this.#breaker.observe(() =>
      this.#use((api) => inspectPresence(api, state, context)),
    );
    const { rootLostSince } = this.#findings;
    this.#note({ rootLostSince: rootLost ? (rootLostSince ?? clock.now()) : null });
    return inspection;
  }

  examine(): Promise<Examination> {
    const { config, state } = this.#opened;
    return this.#use((api) => examineVault(api, config, state));
  }

  close(): Promise<void> {
    if (!this.#isClosed && this.#running === 0) void this.#end();
    this.#isClosed = true;
    return this.#ended.promise;
  }

  /** Signs a leaf; creates the role, once, if it was deleted. */
  async #signInVault(
    api: PkiApi,
    issuer: LeafIssuer,
    { fields }: LeafDraft,
    csr: string,
  ): Promise<Certificate> {
    const { config, context } = this.#opened;
    const role = roleFields(context, config.leafTtlMs);
    try {
      return await signInVault(api, issuer, fields, csr);
    } catch (error) {
      if (failedBy(error, "refused", "malformed_response")) {
        const difference = await roleDifference(api, config.intermediate, role);
        if (difference === null) throw error;
        throw new VaultError(error.reason, `${error.message}; ${difference}`, error.status, error);
      }
      if (!failedBy(error, "role_missing")) throw error;
    }
    await ensureRole(api, config.intermediate, role, () => undefined);
    return signInVault(api, issuer, fields, csr);
  }

  /** @throws {ProviderError} in a secondary datacenter */
  #root(): VaultRoot {
    const { root: certificate, state } = this.#opened;
    return { certificate, state: requireRoot(state), path: state.path };
  }

  /** Running work ends by itself after `close`; later work gets a client of its own. */
  async #use<T>(work: (api: PkiApi) => Promise<T>): Promise<T> {
    const { connect, config } = this.#opened;
    if (this.#isClosed) return withClient(connect, config.connection, work);
    this.#running++;
    try {
      return await work(this.#api);
    } finally {
      this.#running--;
      if (this.#isClosed && this.#running === 0) void this.#end();
    }
  }

  async #end(): Promise<void> {
    // A token that cannot be revoked expires.
    await this.#api.revoke().catch(() => undefined);
    this.#api.close();
    this.#ended.resolve();
  }

  #note(findings: Partial<Findings>): void {
    this.#findings = { ...this.#findings, ...findings };
  }
}
