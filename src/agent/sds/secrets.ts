/**
 * The secrets that Envoy may ask for, by the names of SPIRE's agent, so that configurations that
 * were written for SPIRE work.
 * @module
 */
import type { TrustBundle, X509Svid } from "../../client/svid.ts";
import { hex, sha256, utf8 } from "../../core/bytes.ts";
import { certificatePem, writePem } from "../../core/pem.ts";
import type { WorkloadState } from "../workload-state.ts";

/** The default identity of the endpoint (SPIRE, `default_svid_name`). */
const DEFAULT_SVID = "default";
/** The roots of the trust domain (SPIRE, `default_bundle_name`). */
const ROOT_CA = "ROOTCA";
/** The roots of all trust domains (SPIRE, `default_all_bundles_name`). */
const ALL_BUNDLES = "ALL";

/** A secret under the name that it was asked for. */
export type Secret = { readonly name: string } & (
  | { readonly kind: "certificate"; readonly chain: string; readonly privateKey: string }
  | { readonly kind: "roots"; readonly roots: string }
  | { readonly kind: "all"; readonly trustDomain: string; readonly roots: string }
);

export interface Resolution {
  readonly secrets: readonly Secret[];
  /** Names that the endpoint has, or may have, but no secret for now. */
  readonly pending: readonly string[];
  /** Names that the endpoint does not have. */
  readonly unknown: readonly string[];
}

const chains = new WeakMap<X509Svid, { readonly chain: string; readonly privateKey: string }>();
const roots = new WeakMap<TrustBundle, string>();

/**
 * The secrets of some names, each once, in their order.
 * @param names null for every identity by its SPIFFE ID, and the roots by that of the trust domain.
 */
export function resolveSecrets(state: WorkloadState, names: readonly string[] | null): Resolution {
  const secrets: Secret[] = [];
  const pending: string[] = [];
  const unknown: string[] = [];
  for (const name of new Set(names ?? allNames(state))) {
    const found = isKnown(state, name) ? secretOf(state, name) : "unknown";
    if (found === "unknown") unknown.push(name);
    else if (found === null) pending.push(name);
    else secrets.push(found);
  }
  return { secrets, pending, unknown };
}

/** What tells two secrets of one name apart. A chain has the public key, so that of the key is not needed. */
export function contentOf(secret: Secret): string {
  return secret.kind === "certificate" ? secret.chain : secret.roots;
}

/** A version that is the same for the same secrets, in whatever order. */
export function versionOf(secrets: readonly Secret[]): string {
  const parts = secrets.map((secret) => [secret.name, secret.kind, contentOf(secret)]);
  const text = JSON.stringify(parts.toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1)));
  return hex(sha256(utf8(text))).slice(0, 32);
}

/** The refusal of names that the endpoint does not have. */
export function unknownNames({ unknown }: Resolution): string {
  const names = unknown.slice(0, 3).map((name) => JSON.stringify(name.slice(0, 300)));
  const more = unknown.length > 3 ? ` and ${unknown.length - 3} more` : "";
  return `This endpoint has no secret with the name ${names.join(", ")}${more}; it has "${DEFAULT_SVID}", "${ROOT_CA}", "${ALL_BUNDLES}", the SPIFFE IDs of its identities and that of its trust domain`;
}

function allNames({ spiffeIds, bundle }: WorkloadState): readonly string[] {
  return bundle === null ? spiffeIds : [...spiffeIds, trustDomainId(bundle)];
}

function isKnown(state: WorkloadState, name: string): boolean {
  const { bundle, isEmpty } = state;
  if (name === ROOT_CA || name === ALL_BUNDLES) return true;
  if (name === DEFAULT_SVID) return !isEmpty;
  const parts = /^spiffe:\/\/([^/]+)(\/.+)?$/.exec(name);
  if (parts === null) return false;
  const [, trustDomain, path] = parts;
  if (bundle !== null && trustDomain !== bundle.trustDomain) return false;
  return path === undefined || state.hasSpiffeId(name);
}

/** The secret of a known name, or null if there is none now. */
function secretOf(state: WorkloadState, name: string): Secret | null {
  const { bundle } = state;
  if (name === ROOT_CA || (bundle !== null && name === trustDomainId(bundle)))
    return bundle === null ? null : { name, kind: "roots", roots: rootsPem(bundle) };
  if (name === ALL_BUNDLES) {
    if (bundle === null) return null;
    return { name, kind: "all", trustDomain: bundle.trustDomain, roots: rootsPem(bundle) };
  }
  const svid = name === DEFAULT_SVID ? state.defaultSvid : state.svidOf(name);
  return svid === null ? null : { name, kind: "certificate", ...pemOf(svid) };
}

function trustDomainId({ trustDomain }: TrustBundle): string {
  return `spiffe://${trustDomain}`;
}

function pemOf(svid: X509Svid): { readonly chain: string; readonly privateKey: string } {
  const known = chains.get(svid);
  if (known !== undefined) return known;
  const pem = {
    chain: svid.chain.map(certificatePem).join(""),
    privateKey: writePem("PRIVATE KEY", svid.privateKey),
  };
  chains.set(svid, pem);
  return pem;
}

function rootsPem(bundle: TrustBundle): string {
  const known = roots.get(bundle);
  if (known !== undefined) return known;
  const pem = bundle.roots.map(certificatePem).join("");
  roots.set(bundle, pem);
  return pem;
}
