/**
 * The built-in provider: keys made by WebCrypto or supplied by an operator, sealed at once, opened
 * as non-extractable. The root signs leaves itself, as in Consul. It never writes the store and
 * knows nothing outside.
 * @module
 */
import { hex } from "../../src/core/bytes.ts";
import { withoutFields } from "../../src/core/ca/config-fields.ts";
import { ConfigError, FormatError, ProviderError, readOrNull } from "../../src/core/errors.ts";
import { readPem } from "../../src/core/pem.ts";
import type {
  CrossSigner,
  Prepared,
  PrepareRequest,
  Provider,
  ProviderContext,
  ProviderType,
  RequestedIntermediate,
  SecondaryRequest,
} from "../../src/core/ports/provider.ts";
import type { SealPurpose } from "../../src/core/ports/sealer.ts";
import { HIDDEN, type ProviderState } from "../../src/core/state.ts";
import {
  type Authority,
  type CaKey,
  caCommonName,
  createIntermediate,
  createRoot,
  crossSign,
  generateCaKey,
  signingUri,
} from "../../src/core/x509/authority.ts";
import { readCaRequest } from "../../src/core/x509/ca-request.ts";
import { type Certificate, pemOf, readCertificate } from "../../src/core/x509/certificate.ts";
import { requireIntermediates } from "../../src/core/x509/intermediate.ts";
import {
  caHash,
  caScheme,
  keyAlgorithm,
  keyIdOf,
  type PublicKeyInfo,
} from "../../src/core/x509/keys.ts";
import { LeafTemplate, LOCAL_LEAF_LIMITS } from "../../src/core/x509/leaf.ts";
import { makeCaRequest } from "../../src/core/x509/request.ts";
import { type ConsulConfig, parseConsulConfig } from "./config.ts";
import { readPrivateKey } from "./private-key.ts";
import { readSuppliedRoot, suppliedRootWarnings } from "./supplied-root.ts";

const NAME = "consul";

/** The built-in provider's type. */
export const consulProvider: ProviderType<ConsulConfig> = {
  name: NAME,
  rootName: "Consul CA Primary Cert",
  secretFields: ["PrivateKey"],
  rootFields: ["PrivateKeyType", "PrivateKeyBits", "PrivateKey", "RootCert"],
  parse: parseConsulConfig,
  prepare,
  requestIntermediate,
  open,
  keepsIssuer: (before, after) =>
    before.keySpec.type === after.keySpec.type && before.keySpec.bits === after.keySpec.bits,
  opensAlike: (before, after) => before.intermediateTtlMs === after.intermediateTtlMs,
  issuerOf: (state) => issuerChainOf(state)[0] ?? null,
  withoutRoot: (raw) => (raw === null ? null : withoutFields(raw, ["PrivateKey", "RootCert"])),
  sealedPurposes(state, root, clusterId) {
    const signing = issuerChainOf(state)[0] ?? root;
    return signing === null ? {} : { key: purposeOf(signing.key, { clusterId }) };
  },
  rotateObstacle({ privateKey, rootCert }) {
    if (rootCert !== "")
      return "Cannot rotate: the root was supplied by an operator. Supply a new PrivateKey and RootCert in the CA configuration";
    if (privateKey !== "")
      return "Cannot rotate: the root's key was supplied by an operator. Supply a new PrivateKey in the CA configuration";
    return null;
  },
};

async function prepare(
  config: ConsulConfig,
  { previous, fresh, now }: PrepareRequest<ConsulConfig>,
  context: ProviderContext,
): Promise<Prepared> {
  if (
    previous !== null &&
    !fresh &&
    (await describesRoot(config, previous.config, previous.root, context, now))
  )
    return { root: previous.root, state: previous.state };

  if (config.privateKey === HIDDEN) {
    if (previous === null)
      throw new ConfigError(
        'PrivateKey is "hidden", which keeps the stored key, but none is stored',
      );
    // The stored key under another certificate.
    const root = await rootFor({ info: previous.root.key }, config, context, now, () =>
      openKey(previous.state, previous.root.key, context),
    );
    return { root, state: previous.state, warnings: suppliedRootWarnings(root) };
  }
  const key =
    config.privateKey === ""
      ? await generateCaKey(config.keySpec)
      : await supplied(config.privateKey);
  const root = await rootFor(key, config, context, now, async () => key.privateKey);
  const state = { key: await context.sealer.sealKey(key.privateKey, purposeOf(key.info, context)) };
  return { root, state, warnings: suppliedRootWarnings(root) };
}

/** Whether a configuration describes the active root: its key and root fields are unchanged. */
async function describesRoot(
  config: ConsulConfig,
  before: ConsulConfig,
  root: Certificate,
  context: ProviderContext,
  now: Date,
): Promise<boolean> {
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
  return (await readSuppliedRoot(config.rootCert, { info: root.key }, context, now)).id === root.id;
}

async function supplied(pem: string): Promise<CaKey> {
  try {
    return await readPrivateKey(pem);
  } catch (error) {
    // Consul's text, without the key that Consul prints in it (agent/connect/parsing.go).
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
  const { clusterId, trustDomain, random } = context;
  if (config.rootCert !== "") return readSuppliedRoot(config.rootCert, key, context, now);
  return createRoot(
    { info: key.info, privateKey: await privateKey() },
    { clusterId, trustDomain, provider: NAME, ttlMs: config.rootTtlMs, now, random },
  );
}

async function requestIntermediate(
  { keySpec }: ConsulConfig,
  _request: SecondaryRequest<ConsulConfig>,
  context: ProviderContext,
): Promise<RequestedIntermediate> {
  const { clusterId, random, sealer } = context;
  const key = await generateCaKey(keySpec);
  return {
    csr: await makeCaRequest(
      key,
      caCommonName("sec", NAME, clusterId, random),
      signingUri(context),
    ),
    async accept(answered, root, now) {
      const path = await requireIntermediates(answered, key.info, root, context, now);
      const sealed = await sealer.sealKey(key.privateKey, purposeOf(key.info, context));
      return { state: { key: sealed, issuers: path.map(pemOf).join("") } };
    },
  };
}

async function open(
  config: ConsulConfig,
  state: ProviderState,
  root: Certificate,
  context: ProviderContext,
): Promise<Provider> {
  const issuerChain = issuerChainOf(state);
  const [issuer = root] = issuerChain;
  const privateKey = await openKey(state, issuer.key, context);
  // Consul signs leaves with SHA-256 on every curve (agent/connect/ca/provider_consul.go).
  const scheme = caScheme(issuer.key, "SHA-256");
  return {
    issuer,
    issuerChain,
    template: new LeafTemplate(issuer, scheme),
    remote: false,
    leafLimits: LOCAL_LEAF_LIMITS,
    crossSigner:
      issuer === root ? crossSignerOf(config, { certificate: root, privateKey }, context) : null,
    external: null,
    async signLeaf(draft) {
      // Straight to WebCrypto: one promise less for every leaf.
      const der = draft.complete(
        new Uint8Array(await crypto.subtle.sign(scheme.params, privateKey, draft.signed)),
      );
      const { serial, notBefore, notAfter } = draft.fields;
      return { der, serial, notBefore, notAfter };
    },
    async close() {},
  };
}

function crossSignerOf(
  { intermediateTtlMs: ttlMs }: ConsulConfig,
  root: Authority,
  { clusterId, trustDomain, random }: ProviderContext,
): CrossSigner {
  return {
    async requirePermission() {},
    crossSign: async (other, now, until) => [await crossSign(other, root, { now, until, random })],
    async signIntermediate(csr, now) {
      const { key } = await readCaRequest(csr, signingUri({ trustDomain }));
      const options = { clusterId, trustDomain, provider: NAME, ttlMs, now, random };
      return [await createIntermediate(key, root, options)];
    },
  };
}

/** From the issuer up to below the root; empty in a primary datacenter, whose root signs leaves. */
function issuerChainOf({ issuers = "" }: ProviderState): Certificate[] {
  const chain = readOrNull(() => readPem(issuers).map(({ bytes }) => readCertificate(bytes)));
  if (chain !== null) return chain;
  throw new ProviderError(
    "provider_contract",
    "The intermediates in the CA's state cannot be read",
  );
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
function purposeOf(
  info: PublicKeyInfo,
  { clusterId }: Pick<ProviderContext, "clusterId">,
): SealPurpose {
  return { clusterId, purpose: "ca-key", id: hex(keyIdOf(info.spki)) };
}
