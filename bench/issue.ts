/**
 * How fast leaves are signed, compared with what the crypto itself allows: in one run, in turn, on
 * the same cores.
 *
 * - raw: import the request's key, verify its signature, sign as many octets as a leaf has;
 *   WebCrypto only, 16 in flight
 * - in process: the whole way of a request, 16 in flight
 * - http: the whole service, the load generator in another process on the same cores
 * - peculiar: the same work through @peculiar/x509
 * @module
 */
import "reflect-metadata";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { hex } from "../src/core/bytes.ts";
import type { CertificateAuthority } from "../src/core/ca/ca.ts";
import { LEAF_BACKDATE_MS } from "../src/core/x509/leaf.ts";
import { serve } from "../src/entry/bun.ts";
import { median } from "./figures.ts";
import { startGenerator } from "./generator.ts";
import { pick, rate, SECONDS } from "./rate.ts";
import { type BenchRequest, CLUSTER, makeRequests, writeBodies } from "./requests.ts";
import { startServer } from "./server.ts";
import { benchSettings } from "./settings.ts";

/** Of the load generator: each has one request in flight, part of which is on its way. */
const CONNECTIONS = 64;
const ROUNDS = 5;
/**
 * Rounds that do not count: a compiler that learns while it runs needs some ten thousand leaves.
 */
const WARM_UP = 2;
/** Octets of a P-256 leaf's signed part. */
const LEAF_OCTETS = 460;

const CAS = {
  "EC P-256": {
    key: { name: "ECDSA", namedCurve: "P-256" },
    sign: { name: "ECDSA", hash: "SHA-256" },
    config: {},
  },
  "RSA-2048": {
    key: {
      name: "RSASSA-PKCS1-v1_5",
      modulusLength: 2048,
      publicExponent: Uint8Array.of(1, 0, 1),
      hash: "SHA-256",
    },
    sign: { name: "RSASSA-PKCS1-v1_5" },
    config: { PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
  },
};

/** The same work as the leaf path, through @peculiar/x509. */
async function peculiarLeaf(
  request: BenchRequest,
  authority: CertificateAuthority,
  key: CryptoKey,
  signing: object,
): Promise<void> {
  const csr = new x509.Pkcs10CertificateRequest(request.pem);
  if (!(await csr.verify())) throw new TypeError("Proof of possession fails");
  const issuer = new x509.X509Certificate(authority.require().active.certificate.der);
  const now = Date.now();
  const names = csr.extensions.find(
    (extension) => extension instanceof x509.SubjectAlternativeNameExtension,
  );
  const leaf = await x509.X509CertificateGenerator.create({
    serialNumber: hex(crypto.getRandomValues(new Uint8Array(16))),
    subject: "",
    issuer: issuer.subjectName,
    notBefore: new Date(now - LEAF_BACKDATE_MS),
    notAfter: new Date(now + 72 * 3_600_000),
    publicKey: csr.publicKey,
    signingKey: key,
    signingAlgorithm: signing as EcdsaParams,
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.clientAuth,
        x509.ExtendedKeyUsage.serverAuth,
      ]),
      new x509.BasicConstraintsExtension(false, undefined, true),
      await x509.SubjectKeyIdentifierExtension.create(csr.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      new x509.SubjectAlternativeNameExtension(names?.names.toJSON() ?? [], true),
    ],
  });
  leaf.toString("pem");
}

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
try {
  for (const [name, ca] of Object.entries(CAS)) await measure(name, ca);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();

async function measure(name: string, ca: (typeof CAS)[keyof typeof CAS]): Promise<void> {
  const here = mkdtempSync(join(folder, "ca-"));
  const served = await serve(benchSettings(here, ca.config));
  const { ca: authority } = await served.ready;
  const requests = await makeRequests();
  const server = await startServer(here, { ...ca.config, cluster_id: CLUSTER });
  const generator = startGenerator(server.port, writeBodies(here, requests));
  const key = (
    (await crypto.subtle.generateKey(ca.key as EcKeyGenParams, false, [
      "sign",
      "verify",
    ])) as CryptoKeyPair
  ).privateKey;
  const leaf = crypto.getRandomValues(new Uint8Array(LEAF_OCTETS));
  const verifying = { name: "ECDSA", hash: "SHA-256" };

  const raw = async (i: number) => {
    const { spki, signed, signature } = pick(requests, i);
    const imported = await crypto.subtle.importKey(
      "spki",
      spki,
      { name: "ECDSA", namedCurve: "P-256" },
      false,
      ["verify"],
    );
    await crypto.subtle.verify(verifying, imported, signature, signed);
    await crypto.subtle.sign(ca.sign, key, leaf);
  };
  const ours = (i: number) => authority.sign(pick(requests, i).pem);
  const load = async () => {
    const { count, errors, seconds } = await generator.run({
      connections: CONNECTIONS,
      seconds: SECONDS,
    });
    if (errors > 0) throw new TypeError(`${errors} requests failed`);
    return count / seconds;
  };
  const results: { raw: number; ours: number; http: number }[] = [];
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const result = { raw: await rate(raw), ours: await rate(ours), http: await load() };
    if (round >= WARM_UP) results.push(result);
  }
  // Last, since what it leaves to be collected would slow the others.
  const peculiar = await rate((i) => peculiarLeaf(pick(requests, i), authority, key, ca.sign));
  const of = (column: keyof (typeof results)[number]) =>
    median(results.map((result) => result[column]));
  const share = (column: keyof (typeof results)[number]) =>
    median(results.map((result) => result[column] / result.raw));
  console.log(`\n${name} CA, P-256 leaves, ${ROUNDS} rounds of ${SECONDS} s, medians`);
  const row = (rate: number, portion: number, target: string) => ({
    "leaves/s": Math.round(rate),
    "of raw": `${(100 * portion).toFixed(0)} %`,
    target,
  });
  console.table({
    "raw WebCrypto": row(of("raw"), 1, ""),
    "in process": row(of("ours"), share("ours"), ">= 85 %"),
    "over HTTP": row(of("http"), share("http"), ">= 60 %"),
    "@peculiar/x509": row(peculiar, peculiar / of("raw"), ""),
  });
  const half = await generator.run({ connections: CONNECTIONS, seconds: 5, rate: of("http") / 2 });
  console.log(
    `half of the highest HTTP rate (${Math.round(half.count / half.seconds)}/s): p50 ${half.p50.toFixed(2)} ms, p99 ${half.p99.toFixed(2)} ms (target < 10 ms), ${half.errors} errors`,
  );
  generator.close();
  await server.stop();
  await served.close();
}
