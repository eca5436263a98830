/**
 * Roots and configuration in Consul's JSON, with its names and order of fields
 * (agent/structs/connect_ca.go).
 * @module
 */

import { type Json, rfc3339, sortKeys } from "../consul/go-json.ts";
import type { JsonObject } from "../consul/go-struct.ts";
import { crossChainOf, issuerChainOf } from "../core/ca/cross-chain.ts";
import type { TrustOfDropped } from "../core/ca/dropped-roots.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import type { CaState, RootEntry } from "../core/state.ts";
import { type Certificate, pemOf } from "../core/x509/certificate.ts";

/** Consul's names of the key types that a root can have. */
type WireKeyType = "ec" | "rsa" | "ed25519";

/** X-Consul-Index of the roots, which every change of roots or configuration increases. */
export function wireIndex(state: CaState): number {
  return Math.max(state.config.modifyIndex, ...state.roots.map((root) => root.modifyIndex));
}

/**
 * The roots that are published at an instant: an expired one verifies nothing, and is left out. The
 * active root is always published, since Consul's clients look for the one that is named as active.
 */
export function publishedRoots({ roots }: CaState, now: Date): readonly RootEntry[] {
  return roots.filter(
    ({ status, certificate }) => status === "active" || certificate.notAfter > now,
  );
}

/** A root through which a dropped one is trusted. */
export function trustJson({ droppedId, rootId, until }: TrustOfDropped): Json {
  return { DroppedRootID: droppedId, RootID: rootId, Until: rfc3339(until) };
}

/** @param roots the published ones */
export function rootsJson({ state, active }: Snapshot, roots: readonly RootEntry[]): Json {
  return {
    ActiveRootID: active.id,
    TrustDomain: state.trustDomain,
    Roots: roots.map(rootJson),
    // Not in Consul: what no datacenter that follows this one is to publish.
    ...(state.dropped.length === 0
      ? {}
      : {
          Dropped: state.dropped.map(({ id, keyId, notAfter }) => ({
            ID: id,
            KeyID: keyId,
            NotAfter: rfc3339(notAfter),
          })),
        }),
  };
}

function rootJson(root: RootEntry): Json {
  const { certificate } = root;
  return {
    ID: root.id,
    Name: root.name,
    SerialNumber: serialNumber(certificate.serial),
    SigningKeyID: root.signingKeyId,
    ExternalTrustDomain: root.externalTrustDomain,
    NotBefore: rfc3339(certificate.notBefore),
    NotAfter: rfc3339(certificate.notAfter),
    RootCert: pemOf(certificate),
    IntermediateCerts: root.intermediates.length === 0 ? null : inConsulsOrder(root).map(pemOf),
    Active: root.status === "active",
    // Not in Consul.
    ...(root.abandoned ? { Abandoned: true } : {}),
    ...(root.lost === true ? { Lost: true } : {}),
    ...(root.status === "prepared" ? { Prepared: true } : {}),
    PrivateKeyType: certificate.key.type satisfies WireKeyType,
    PrivateKeyBits: certificate.key.bits,
    CreateIndex: root.createIndex,
    ModifyIndex: root.modifyIndex,
  };
}

/**
 * Consul prepends cross-signed certificates, so the leaves' issuer is last
 * (agent/consul/leader_connect_ca.go).
 */
function inConsulsOrder(root: RootEntry): readonly Certificate[] {
  return [...crossChainOf(root), ...issuerChainOf(root).toReversed()];
}

/** Consul's SerialNumber of a root: the low 64 bits of its certificate's. */
export function serialNumber(serial: Uint8Array): bigint {
  return serial.slice(-8).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** Roots with their intermediates, in the order of the JSON. */
export function rootsPem(roots: readonly RootEntry[]): string {
  return roots
    .flatMap((root) => [root.certificate, ...inConsulsOrder(root)])
    .map(pemOf)
    .join("");
}

export function configurationJson(state: CaState): JsonObject {
  const { provider, config, forceWithoutCrossSigning, createIndex, modifyIndex } = state.config;
  return {
    Provider: provider,
    // It came in as JSON.
    Config: config === null ? null : sortKeys(config as JsonObject),
    State: null,
    ForceWithoutCrossSigning: forceWithoutCrossSigning,
    CreateIndex: createIndex,
    ModifyIndex: modifyIndex,
  };
}
