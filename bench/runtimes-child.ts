/**
 * A CA in memory on the runtime that runs this. Prints its port, then for each line on standard
 * input the rate of what the line names: `raw`, what WebCrypto itself allows; `node`, the same
 * through node:crypto; `process`, whole leaves.
 * @module
 */
import { createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import { createInterface } from "node:readline";
import { serve } from "../src/entry/runtime.ts";
import { pick, rate } from "./rate.ts";
import { makeRequests } from "./requests.ts";
import { benchSettings } from "./settings.ts";

/** Octets of a P-256 leaf's signed part. */
const LEAF_OCTETS = 460;
const P256 = { name: "ECDSA", namedCurve: "P-256" };
const SHA256 = { name: "ECDSA", hash: "SHA-256" };

const served = await serve(benchSettings("/nowhere"));
const { ca: authority } = await served.ready;
const requests = await makeRequests();
const { privateKey } = (await crypto.subtle.generateKey(P256, false, [
  "sign",
  "verify",
])) as CryptoKeyPair;
const nodeKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
const leaf = crypto.getRandomValues(new Uint8Array(LEAF_OCTETS));

const works: Readonly<Record<string, (i: number) => Promise<unknown>>> = {
  async raw(i) {
    const { spki, signed, signature } = pick(requests, i);
    const imported = await crypto.subtle.importKey("spki", spki, P256, false, ["verify"]);
    await crypto.subtle.verify(SHA256, imported, signature, signed);
    await crypto.subtle.sign(SHA256, privateKey, leaf);
  },
  async node(i) {
    const { spki, signed, signature } = pick(requests, i);
    const key = createPublicKey({ key: Buffer.from(spki), type: "spki", format: "der" });
    verify("sha256", signed, { key, dsaEncoding: "ieee-p1363" }, signature);
    sign("sha256", leaf, { key: nodeKey, dsaEncoding: "ieee-p1363" });
  },
  process: (i) => authority.sign(pick(requests, i).pem),
};

console.log(`port ${new URL(served.url).port}`);
for await (const line of createInterface({ input: process.stdin })) {
  const work = works[line];
  if (work === undefined) throw new TypeError(`Nothing is called ${line}`);
  console.log(`rate ${await rate(work)}`);
}
await served.close();
process.exit();
