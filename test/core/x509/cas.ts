/**
 * CAs for tests: one key of every type a CA may have, and certificates checked by openssl.
 * @module
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Authority,
  type CaKey,
  createRoot,
  generateCaKey,
} from "../../../src/core/x509/authority.ts";
import { type Certificate, pemOf, readCertificate } from "../../../src/core/x509/certificate.ts";
import { type CaKeySpec, caScheme, sign } from "../../../src/core/x509/keys.ts";
import {
  createSerials,
  type LeafFields,
  LeafTemplate,
  leafKeyUsage,
} from "../../../src/core/x509/leaf.ts";
import { inFolder, openssl } from "../../fakes/ca.ts";
import { createFakeClock, systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";
import { publicKey, URI } from "./requests.ts";

export const CLUSTER_ID = "11111111-2222-3333-4444-555555555555";
export const NOW = createFakeClock().now();
/**
 * For what makes RSA keys or works for seconds: more time than the runner gives a test by itself.
 */
export const SLOW = { timeout: 60_000 };
export const YEAR_MS = 365 * 24 * 3_600_000;

export const CA_KEY_SPECS: ReadonlyMap<string, CaKeySpec> = new Map<string, CaKeySpec>([
  ["EC 256", { type: "ec", bits: 256 }],
  ["EC 384", { type: "ec", bits: 384 }],
  ["EC 521", { type: "ec", bits: 521 }],
  ["RSA 2048", { type: "rsa", bits: 2048 }],
  ["RSA 4096", { type: "rsa", bits: 4096 }],
]);

/** A root with its key. */
export interface Ca extends Authority {
  readonly key: CaKey;
}

/** Makes a root and its key. */
export async function makeCa(
  spec: CaKeySpec = { type: "ec", bits: 256 },
  ttlMs = 10 * YEAR_MS,
  now = NOW,
): Promise<Ca> {
  const key = await generateCaKey(spec);
  const certificate = await createRoot(key, {
    now,
    random: systemRandom,
    ...clusterOf(CLUSTER_ID),
    provider: "consul",
    ttlMs,
  });
  return { certificate, privateKey: key.privateKey, key };
}

/** One root of every key type. */
export async function makeCas(ttlMs = 10 * YEAR_MS): Promise<ReadonlyMap<string, Ca>> {
  const made = await Promise.all(
    Array.from(CA_KEY_SPECS, async ([name, spec]) => [name, await makeCa(spec, ttlMs)] as const),
  );
  return new Map(made);
}

export function required<K, V>(map: ReadonlyMap<K, V>, key: K): V {
  const value = map.get(key);
  if (value === undefined) throw new RangeError(`Nothing under ${String(key)}`);
  return value;
}

/** The fields of a plain leaf, unless a test overrides them. */
export function leafFields(more: Partial<LeafFields> = {}): LeafFields {
  return {
    serial: createSerials(systemRandom)(),
    notBefore: new Date(NOW.getTime() - 60_000),
    notAfter: new Date(NOW.getTime() + 72 * 3_600_000),
    spki: publicKey("EC 256"),
    keyUsage: leafKeyUsage("ec"),
    uri: URI,
    dnsNames: [],
    ipAddresses: [],
    ...more,
  };
}

/** Signs a leaf. */
export async function makeLeaf(
  by: Authority,
  more: Partial<LeafFields> = {},
): Promise<Certificate> {
  const scheme = caScheme(by.certificate.key, "SHA-256");
  const draft = new LeafTemplate(by.certificate, scheme).encode(leafFields(more));
  return readCertificate(draft.complete(await sign(by.privateKey, scheme, draft.signed)));
}

/**
 * Has openssl verify a certificate. @param flags `-x509_strict`, which TLS libraries do not use by
 * default, unless others are given. @throws when it does not verify.
 */
export function opensslVerify(
  certificate: Certificate,
  root: Certificate,
  untrusted: readonly Certificate[] = [],
  at = NOW,
  flags: readonly string[] = ["-x509_strict"],
): string {
  return inFolder((folder) => {
    const file = (name: string, certificates: readonly Certificate[]) => {
      writeFileSync(join(folder, name), certificates.map(pemOf).join(""));
      return join(folder, name);
    };
    const through = untrusted.length === 0 ? [] : ["-untrusted", file("untrusted.pem", untrusted)];
    const time = String(Math.floor(at.getTime() / 1000));
    const trusted = ["-no-CApath", "-no-CAstore", "-CAfile", file("root.pem", [root])];
    return openssl([
      "verify",
      ...flags,
      "-attime",
      time,
      ...trusted,
      ...through,
      file("one.pem", [certificate]),
    ]);
  });
}
