/**
 * Certificate requests to measure with: P-256 keys, each with its own service name.
 * @module
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Bytes } from "../src/core/bytes.ts";
import { utf8 } from "../src/core/bytes.ts";
import { writePem } from "../src/core/pem.ts";
import { generateCaKey } from "../src/core/x509/authority.ts";
import {
  bitString,
  contextConstructed,
  contextPrimitive,
  element,
  encode,
  octetString,
  oid,
  oidContent,
  sequence,
  TAG,
} from "../src/core/x509/der.ts";
import { encodeSignature, SCHEMES, sign } from "../src/core/x509/keys.ts";
import { OID } from "../src/core/x509/oids.ts";

/** The trust domain's own part in every measurement, so that all requests fit all servers. */
export const CLUSTER = "11111111-2222-3333-4444-555555555555";

export interface BenchRequest {
  readonly pem: string;
  readonly uri: string;
  readonly spki: Bytes;
  /** What the proof of possession signs, and its signature in WebCrypto's form. */
  readonly signed: Bytes;
  readonly signature: Bytes;
}

/** Makes requests for 64 services. */
export function makeRequests(
  trustDomain = `${CLUSTER}.consul`,
  datacenter = "dc1",
): Promise<BenchRequest[]> {
  return Promise.all(
    Array.from({ length: 64 }, (_, i) =>
      makeRequest(`spiffe://${trustDomain}/ns/default/dc/${datacenter}/svc/bench-${i}`),
    ),
  );
}

/**
 * Writes the file that the load generator reads.
 * @param token sent with each. @default none
 * @returns its path
 */
export function writeBodies(
  folder: string,
  requests: readonly BenchRequest[],
  token: string | null = null,
): string {
  const file = join(folder, "bodies.json");
  writeFileSync(
    file,
    JSON.stringify(requests.map(({ pem }) => (token === null ? pem : { pem, token }))),
  );
  return file;
}

async function makeRequest(uri: string): Promise<BenchRequest> {
  const { privateKey, info } = await generateCaKey({ type: "ec", bits: 256 });
  const scheme = SCHEMES.ecdsaSha256;
  if (scheme === undefined) throw new TypeError("No scheme");
  const names = sequence(
    oid(oidContent(OID.subjectAltName)),
    element(TAG.boolean, Uint8Array.of(0xff)),
    octetString(sequence(element(contextPrimitive(6), utf8(uri)))),
  );
  const attribute = sequence(
    oid(oidContent(OID.extensionRequest)),
    element(TAG.set, sequence(names)),
  );
  const signed = encode(
    sequence(
      element(TAG.integer, Uint8Array.of(0)),
      sequence(),
      info.spki,
      element(contextConstructed(0), attribute),
    ),
  );
  const signature = await sign(privateKey, scheme, signed);
  const pem = writePem(
    "CERTIFICATE REQUEST",
    encode(sequence(signed, scheme.identifier, bitString(encodeSignature(scheme, signature)))),
  );
  return { pem, uri, spki: info.spki, signed, signature };
}
