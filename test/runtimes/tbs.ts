/**
 * What the core makes of given keys at a given time with given chance: the bytes to be signed of
 * one certificate of each kind and key. Uses Web APIs only, as the core does, so that every
 * runtime can run it.
 * @module
 */
import { hex } from "../../src/core/bytes.ts";
import type { Random } from "../../src/core/ports/clock.ts";
import { createIntermediate, createRoot, crossSign } from "../../src/core/x509/authority.ts";
import type { Certificate } from "../../src/core/x509/certificate.ts";
import {
  caHash,
  caScheme,
  keyAlgorithm,
  keyIdOf,
  readPublicKey,
} from "../../src/core/x509/keys.ts";
import { createSerials, LeafTemplate, leafKeyUsage } from "../../src/core/x509/leaf.ts";
import { clusterOf } from "../fakes/cluster.ts";

/** A key pair, both halves in base64 of their DER. */
export interface KeyVector {
  readonly name: string;
  readonly pkcs8: string;
  readonly spki: string;
}

const CLUSTER_ID = "11111111-2222-3333-4444-555555555555";
const YEAR_MS = 365 * 24 * 3_600_000;
const NOW = new Date("2026-06-01T12:00:00Z");

const bytesOf = (base64: string) =>
  Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

/** @param randomOf chance from a seed. @returns hexadecimal by what it is of */
export async function toBeSigned(
  keys: readonly KeyVector[],
  randomOf: (seed: number) => Random,
): Promise<Record<string, string>> {
  const out: Record<string, string> = {};
  const note = (what: string, certificate: Pick<Certificate, "signed">) => {
    out[what] = hex(certificate.signed);
  };
  let before: { certificate: Certificate; privateKey: CryptoKey } | null = null;
  for (const [at, { name, pkcs8, spki }] of keys.entries()) {
    const info = readPublicKey(bytesOf(spki));
    const scheme = caScheme(info, caHash(info));
    const privateKey = await crypto.subtle.importKey(
      "pkcs8",
      bytesOf(pkcs8),
      keyAlgorithm(info, scheme.hash),
      false,
      ["sign"],
    );
    const options = {
      now: NOW,
      random: randomOf(at),
      ...clusterOf(CLUSTER_ID),
      provider: "consul",
      ttlMs: 10 * YEAR_MS,
    };
    const certificate = await createRoot({ info, privateKey }, options);
    note(`root on ${name}`, certificate);
    const authority = { certificate, privateKey };
    note(
      `intermediate under ${name}`,
      await createIntermediate(info, authority, { ...options, ttlMs: YEAR_MS }),
    );
    if (before !== null)
      note(
        `root on ${name}, cross-signed by the one before`,
        await crossSign(certificate, before, { ...options, until: certificate.notAfter }),
      );
    for (const leaf of keys) {
      const key = readPublicKey(bytesOf(leaf.spki));
      note(
        `leaf on ${leaf.name} under ${name}`,
        new LeafTemplate(certificate, scheme).encode({
          serial: createSerials(randomOf(at + 100))(),
          notBefore: NOW,
          notAfter: new Date(NOW.getTime() + 72 * 3_600_000),
          uri: `spiffe://${CLUSTER_ID}.consul/ns/default/dc/dc1/svc/web`,
          dnsNames: ["localhost"],
          ipAddresses: [Uint8Array.of(127, 0, 0, 1)],
          spki: key.spki,
          keyUsage: leafKeyUsage(key.type),
        }),
      );
    }
    out[`key identifier of ${name}`] = hex(keyIdOf(info.spki));
    before = authority;
  }
  return out;
}
