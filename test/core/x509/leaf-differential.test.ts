/**
 * Leaves encoded here and by @peculiar/x509 from the same fields are the same octets.
 * @module
 */
import "reflect-metadata";
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  type JsonGeneralName,
  KeyUsagesExtension,
  Name,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { type Bytes, hex, sha256 } from "../../../src/core/bytes.ts";
import type { Random } from "../../../src/core/ports/clock.ts";
import { formatSpiffeId, type LeafId } from "../../../src/core/spiffe/id.ts";
import {
  type Certificate,
  KEY_USAGE,
  readCertificate,
} from "../../../src/core/x509/certificate.ts";
import { caScheme, type HashName } from "../../../src/core/x509/keys.ts";
import { createSerials, type LeafFields, LeafTemplate } from "../../../src/core/x509/leaf.ts";
import { OID } from "../../../src/core/x509/oids.ts";
import { createSeededRandom } from "../../fakes/clock.ts";
import { CA_KEY_SPECS, type Ca, makeCas, required, SLOW } from "./cas.ts";
import { PUBLIC_KEYS } from "./requests.ts";

const LEAVES_PER_ISSUER = 800;
const HASHES: readonly HashName[] = ["SHA-256", "SHA-384", "SHA-512"];
const SPKIS = [...PUBLIC_KEYS.values()];

/** A number below `limit`, from 32 random bits. */
function below(random: Random, limit: number): number {
  return random.bytes(4).reduce((value, byte) => value * 256 + byte, 0) % limit;
}

function text(random: Random, alphabet: readonly string[], longest: number): string {
  return Array.from(
    { length: 1 + below(random, longest) },
    () => alphabet[below(random, alphabet.length)],
  ).join("");
}

const LABEL = [..."abcdefghijklmnopqrstuvwxyz0123456789-"];
const ANY = [...LABEL, ..."ABCXYZ_."];

function randomId(random: Random): LeafId {
  const word = () => `x${text(random, ANY, below(random, 8) === 0 ? 150 : 20)}`;
  const at = {
    trustDomain: `${text(random, LABEL, 36)}.consul`,
    datacenter: word(),
    partition: below(random, 2) ? "default" : "east",
  };
  const ids: readonly LeafId[] = [
    { kind: "service", ...at, namespace: word(), service: word() },
    { kind: "agent", ...at, node: word() },
    { kind: "mesh-gateway", ...at },
    { kind: "server", trustDomain: at.trustDomain, datacenter: at.datacenter },
  ];
  return ids[below(random, ids.length)] ?? { kind: "mesh-gateway", ...at };
}

function randomFields(random: Random, serial: () => Bytes): LeafFields {
  // From 1996 to 2130, so that both forms of time come at both ends.
  const start = Date.UTC(1996, 0) + below(random, 2 ** 31) * 1000;
  return {
    serial: serial(),
    notBefore: new Date(start),
    notAfter: new Date(start + below(random, 2 ** 31) * 1000),
    spki: SPKIS[below(random, SPKIS.length)] ?? new Uint8Array(),
    keyUsage: KEY_USAGE.digitalSignature | (below(random, 2) ? KEY_USAGE.keyEncipherment : 0),
    uri: formatSpiffeId(randomId(random)),
    dnsNames: Array.from(
      { length: below(random, 4) },
      () => `${text(random, LABEL, 60)}.${text(random, LABEL, 8)}`,
    ),
    ipAddresses: Array.from({ length: below(random, 4) }, () =>
      random.bytes(below(random, 2) ? 4 : 16),
    ),
  };
}

/** An IP address as text, IPv6 in full. */
function address(octets: Bytes): string {
  return octets.length === 4 ? octets.join(".") : (hex(octets).match(/..../g) ?? []).join(":");
}

async function peculiarTbs(
  issuer: Certificate,
  template: LeafTemplate,
  signature: Bytes,
  fields: LeafFields,
): Promise<Bytes> {
  const names: JsonGeneralName[] = [
    ...fields.dnsNames.map((value) => ({ type: "dns", value }) as const),
    ...fields.ipAddresses.map((octets) => ({ type: "ip", value: address(octets) }) as const),
    { type: "url", value: fields.uri },
  ];
  const certificate = await X509CertificateGenerator.create({
    serialNumber: hex(fields.serial),
    issuer: new Name(issuer.subject),
    subject: new Name([]),
    notBefore: fields.notBefore,
    notAfter: fields.notAfter,
    publicKey: new PublicKey(fields.spki),
    signature,
    signingAlgorithm: { hash: template.scheme.hash ?? "", ...template.scheme.params },
    extensions: [
      new KeyUsagesExtension(fields.keyUsage, true),
      new ExtendedKeyUsageExtension([OID.clientAuth, OID.serverAuth]),
      new BasicConstraintsExtension(false, undefined, true),
      new SubjectKeyIdentifierExtension(hex(sha256(fields.spki))),
      new AuthorityKeyIdentifierExtension(hex(issuer.subjectKeyId ?? new Uint8Array())),
      new SubjectAlternativeNameExtension(names, true),
    ],
  });
  return readCertificate(new Uint8Array(certificate.rawData)).signed;
}

describe("LeafTemplate.encode()", () => {
  let cas: ReadonlyMap<string, Ca> = new Map();
  before(async () => {
    cas = await makeCas();
  }, SLOW);

  for (const [name, spec] of CA_KEY_SPECS)
    it(
      `LeafTemplate.encode() writes ${LEAVES_PER_ISSUER} random leaves of an ${name} issuer as @peculiar/x509 does`,
      SLOW,
      async () => {
        const issuer = required(cas, name).certificate;
        const templates = HASHES.map((hash) => new LeafTemplate(issuer, caScheme(spec, hash)));
        const random = createSeededRandom(spec.bits);
        const serials = createSerials(random);
        // The length of a WebCrypto signature, the only property checked when it is encoded in DER.
        const signature = new Uint8Array(
          spec.type === "ec" ? 2 * Math.ceil(spec.bits / 8) : spec.bits / 8,
        ).fill(1);
        let lateDates = 0;
        for (let i = 0; i < LEAVES_PER_ISSUER; i++) {
          const template = templates[i % templates.length];
          assert.ok(template);
          const fields = randomFields(random, serials);
          if (fields.notAfter.getUTCFullYear() >= 2050) lateDates++;
          const ours = template.encode(fields).signed;
          assert.equal(
            hex(ours),
            hex(await peculiarTbs(issuer, template, signature, fields)),
            `leaf ${i}`,
          );
        }
        assert.ok(lateDates > LEAVES_PER_ISSUER / 10 && lateDates < LEAVES_PER_ISSUER);
      },
    );
});
