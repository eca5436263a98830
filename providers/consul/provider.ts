/**
 * The built-in provider: keys made by WebCrypto or supplied by an operator, sealed at once, opened
 * as non-extractable. The root signs leaves itself, as in Consul. It never writes the store and
 * knows nothing outside.
 * @module
 */
import { hex } from "../../src/core/bytes.ts";
import { ConfigError, FormatError, ProviderError } from "../../src/core/errors.ts";
import { readPem } from "../../src/core/pem.ts";
import type {
  Prepared,
  PrepareRequest,
  Provider,
  ProviderContext,
  ProviderType,
  RequestedIntermediate,
  SecondaryRequest,
} from "../../src/core/ports/provider.ts";
import type { SealPurpose } from "../../src/core/ports/sealer.ts";
import type { ConfigMap, ProviderRecord, ProviderState } from "../../src/core/state.ts";
import { HIDDEN } from "../../src/core/state.ts";
import {
  type CaKey,
  caCommonName,
  createIntermediate,
  createRoot,
  crossSign,
  generateCaKey,
  signingUri,
} from "../../src/core/x509/authority.ts";
import { type Certificate, pemOf, readCertificate } from "../../src/core/x509/certificate.ts";
import { readCaRequest } from "../../src/core/x509/csr.ts";
import { requireIntermediates } from "../../src/core/x509/intermediate.ts";
import {
  caHash,
  caScheme,
  keyAlgorithm,
  keyIdOf,
  type PublicKeyInfo,
} from "../../src/core/x509/keys.ts";
import { createLeafTemplate } from "../../src/core/x509/leaf.ts";
import { makeCaRequest } from "../../src/core/x509/request.ts";
import { type ConsulConfig, parseConsulConfig } from "./config.ts";
import { readPrivateKey } from "./private-key.ts";
import { readSuppliedRoot, suppliedRootWarnings } from "./supplied-root.ts";

const NAME = "consul";

/** The built-in provider's type. */
export const consulProvider: ProviderType = {
  name: NAME,
  rootName: "Consul CA Primary Cert",
  secretFields: ["PrivateKey"],
  parse: parseConsulConfig,
  prepare,
  requestIntermediate,
  open,
  issuerOf: (state) => issuersOf(state)[0] ?? null,
  rotateObstacle(config) {
    const { privateKey, rootCert } = parseConsulConfig(config);
    if (rootCert !== "")
      return "Cannot rotate: the root was supplied. Supply a new PrivateKey and RootCert by PUT /v1/connect/ca/configuration";
    if (privateKey !== "")
      return "Cannot rotate: the key was supplied. Supply a new PrivateKey by PUT /v1/connect/ca/configuration";
    return null;
  },
};

async function prepare(request: PrepareRequest, context: ProviderContext): Promise<Prepared> {
  const config = parseConsulConfig(request.config);
  const { previous, now } = request;
  if (
    previous !== null &&
    !request.fresh &&
    (await stillMeant(config, previous.record.config, previous.root, context, now))
  )
    return { root: previous.root, state: previous.record.state };

  if (config.privateKey === HIDDEN) {
    if (previous === null) throw new ConfigError("PrivateKey is kept, but none is stored");
    // The stored key under another certificate.
    const root = await rootFor({ info: previous.root.key }, config, context, now, () =>
      openKey(previous.record.state, previous.root.key, context),
    );
    return { root, state: previous.record.state, warnings: suppliedRootWarnings(root) };
  }
  const key =
    config.privateKey === ""
      ? await generateCaKey(config.keySpec)
      : await supplied(config.privateKey);
  const root = await rootFor(key, config, context, now, async () => key.privateKey);
  const state = { key: await context.sealer.sealKey(key.privateKey, purposeOf(key.info, context)) };
  return { root, state, warnings: suppliedRootWarnings(root) };
}

/**
 * Whether a configuration still means the root that is active: nothing it says of key or root
 * differs.
 */
async function stillMeant(
  config: ConsulConfig,
  stored: ConfigMap | null,
  root: Certificate,
  context: ProviderContext,
  now: Date,
): Promise<boolean> {
  const before = parseConsulConfig(stored);
  if (config.privateKey === "")
    return (
      before.privateKey === "" &&
      config.keySpec.type === before.keySpec.type &&
      config.keySpec.bits === before.keySpec.bits
    );
  const sameKey =
    config.privateKey === HIDDEN ||
    hex((await supplied(config.privateKey)).info.spki) === hex(root.key.spki);
  if (!sameKey) return false;
  if (config.rootCert === "") return before.rootCert === "" && before.privateKey !== "";
  if (config.rootCert === before.rootCert) return true;
  return (
    (await readSuppliedRoot(config.rootCert, { info: root.key }, context.clusterId, now)).id ===
    root.id
  );
}

async function supplied(pem: string): Promise<CaKey> {
  try {
    return await readPrivateKey(pem);
  } catch (error) {
    // Consul's text without the key that it prints (consul-ca.md Q-10).
    if (error instanceof FormatError)
      throw new ConfigError(
        `error generating CA root certificate: error generating CA: error parsing private key: ${error.message}`,
      );
    throw error;
  }
}

async function rootFor(
  key: { readonly info: PublicKeyInfo },
  config: ConsulConfig,
  context: ProviderContext,
  now: Date,
  privateKey: () => Promise<CryptoKey>,
): Promise<Certificate> {
  const { clusterId, random } = context;
  if (config.rootCert !== "") return readSuppliedRoot(config.rootCert, key, clusterId, now);
  return createRoot(
    { info: key.info, privateKey: await privateKey() },
    { clusterId, provider: NAME, ttlMs: config.rootTtlMs, now, random },
  );
}

async function requestIntermediate(
  request: SecondaryRequest,
  context: ProviderContext,
): Promise<RequestedIntermediate> {
  const { clusterId, random, sealer } = context;
  const key = await generateCaKey(parseConsulConfig(request.config).keySpec);
  return {
    csr: await makeCaRequest(
      key,
      caCommonName("sec", NAME, clusterId, random),
      signingUri(clusterId),
    ),
    async accept(answered, root, now) {
      const path = await requireIntermediates(answered, key.info, root, clusterId, now);
      const sealed = await sealer.sealKey(key.privateKey, purposeOf(key.info, context));
      return { state: { key: sealed, issuers: path.map(pemOf).join("") } };
    },
  };
}

async function open(
  record: ProviderRecord,
  root: Certificate,
  context: ProviderContext,
): Promise<Provider> {
  const issuers = issuersOf(record.state);
  const [issuer = root] = issuers;
  const privateKey = await openKey(record.state, issuer.key, context);
  // Leaves are signed with SHA-256 whatever the curve (consul-ca.md §3.5).
  const scheme = caScheme(issuer.key, "SHA-256");
  const template = createLeafTemplate(issuer, scheme);
  const isPrimary = issuer === root;
  const requirePrimary = () => {
    if (!isPrimary)
      throw new ProviderError(
        "provider_rejected",
        "the root is the primary datacenter's: it cannot certify anything here",
      );
  };
  return {
    issuer,
    issuers,
    template,
    remote: false,
    canCrossSign: isPrimary,
    async signLeaf(draft) {
      // Straight to WebCrypto: one promise less for every leaf.
      const der = draft.complete(
        new Uint8Array(await crypto.subtle.sign(scheme.params, privateKey, draft.signed)),
      );
      const { serial, notBefore, notAfter } = draft.fields;
      return { der, serial, notBefore, notAfter };
    },
    async crossSign(other, now, until) {
      requirePrimary();
      return [
        await crossSign(
          other,
          { certificate: root, privateKey },
          { now, until, random: context.random },
        ),
      ];
    },
    async signIntermediate(csr, now) {
      requirePrimary();
      const { key } = await readCaRequest(csr, signingUri(context.clusterId));
      const ttlMs = parseConsulConfig(record.config).intermediateTtlMs;
      const { clusterId, random } = context;
      return [
        await createIntermediate(
          key,
          { certificate: root, privateKey },
          { clusterId, provider: NAME, ttlMs, now, random },
        ),
      ];
    },
    async close() {},
  };
}

/**
 * From what signs leaves up to below the root; none where the root signs them, as in a primary
 * datacenter.
 */
function issuersOf({ issuers = "" }: ProviderState): Certificate[] {
  try {
    return readPem(issuers).map(({ bytes }) => readCertificate(bytes));
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new ProviderError(
      "provider_contract",
      "The intermediates in the CA's state cannot be read",
    );
  }
}

async function openKey(
  state: ProviderState,
  info: PublicKeyInfo,
  context: ProviderContext,
): Promise<CryptoKey> {
  if (state.key === undefined)
    throw new ProviderError("provider_contract", "Provider state has no key");
  return context.sealer.openKey(
    state.key,
    purposeOf(info, context),
    keyAlgorithm(info, caHash(info)),
  );
}

/** Keys are sealed by key identifier, so that one key can stand behind several roots. */
function purposeOf(info: PublicKeyInfo, context: ProviderContext): SealPurpose {
  return { clusterId: context.clusterId, purpose: "ca-key", id: hex(keyIdOf(info.spki)) };
}
