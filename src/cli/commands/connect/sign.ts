/**
 * The commands `meshca sign` and `meshca renew`: a leaf for a request or for a new key.
 * @module
 */
import * as v from "valibot";
import { makeKeyAndRequest } from "../../../client/csr.ts";
import { renewalProof } from "../../../client/renewal-proof.ts";
import { type Bytes, equal } from "../../../core/bytes.ts";
import { FormatError, RequestError } from "../../../core/errors.ts";
import { readPem, writePem } from "../../../core/pem.ts";
import { parseSpiffeId } from "../../../core/spiffe/id.ts";
import { pemOf, readCertificate } from "../../../core/x509/certificate.ts";
import { readCsr } from "../../../core/x509/csr.ts";
import { ipOctets } from "../../../net/ip.ts";
import type { Call, Command } from "../../command.ts";
import type { Connection } from "../../connection/connection.ts";
import { readInput, readKeyFile, requireNew, writeNewFiles } from "../../files.ts";
import type { Flag } from "../../flags.ts";
import { EXIT, Failure, usage } from "../../output.ts";
import { lifeText } from "../../table.ts";
import { readSentPem } from "./sent-pem.ts";

const Leaf = v.looseObject({
  SerialNumber: v.string(),
  CertPEM: v.string(),
  ValidAfter: v.pipe(v.string(), v.isoTimestamp()),
  ValidBefore: v.pipe(v.string(), v.isoTimestamp()),
  ServiceURI: v.optional(v.string()),
  AgentURI: v.optional(v.string()),
  ServerURI: v.optional(v.string()),
  KindURI: v.optional(v.string()),
  RenewAfter: v.optional(v.string()),
});
type LeafValue = v.InferOutput<typeof Leaf>;

export interface SigningRequest {
  /** PEM. */
  readonly csr: string;
  readonly service: string | null;
  /** A duration, or null for LeafCertTTL. */
  readonly ttl: string | null;
}

/**
 * @param bearer a proof of renewal, or null to sign
 * @throws {Failure} also if the server sends something else than certificates, or another key's
 */
export async function requestLeaf(
  connection: Connection,
  { csr, service, ttl }: SigningRequest,
  bearer: string | null,
): Promise<LeafValue> {
  const path = bearer === null ? "/v1/connect/ca/sign" : "/v1/connect/ca/renew";
  const leaf = await connection.json(Leaf, {
    method: "PUT",
    path,
    body: {
      CSR: csr,
      ...(ttl === null ? {} : { TTL: ttl }),
      ...(service === null ? {} : { Service: service }),
    },
    headers: bearer === null ? {} : { Authorization: `Bearer ${bearer}` },
  });
  const chain = readSentPem(leaf.CertPEM, connection, `PUT ${path}`);
  const spki = keyOf(csr);
  if (spki !== null && !equal(chain[0].key.spki, spki))
    throw connection.foreign(`its answer to PUT ${path} is a leaf for another key`);
  return { ...leaf, CertPEM: chain.map(pemOf).join("") };
}

/** The SPKI of a request in PEM; null if this program cannot read what the server could. */
function keyOf(csr: string): Bytes | null {
  try {
    return readCsr(csr, true).key.spki;
  } catch (error) {
    if (error instanceof RequestError) return null;
    throw error;
  }
}

const FLAGS: readonly Flag[] = [
  { ...{ name: "ttl", value: "DURATION" }, help: "lifetime, such as 1h (LeafCertTTL)" },
  {
    ...{ name: "out", value: "FILE", file: true },
    help: "write the leaf and its chain to this file, which must not exist",
  },
  {
    ...{ name: "key-out", value: "FILE", file: true },
    help: "make a key of EC P-256 and write it to this file, which must not exist (mode 0600)",
  },
];

const NAME_FLAGS: readonly Flag[] = [
  { ...{ name: "dns-name", value: "NAME", many: true }, help: "DNS name of the leaf of a new key" },
  {
    ...{ name: "ip-address", value: "IP", many: true },
    help: "IP address of the leaf of a new key",
  },
];

export const sign: Command = {
  name: "sign",
  summary: "have a leaf signed",
  details:
    "For a certificate request in PEM, or for a key that --key-out makes here: the key never leaves this machine. The leaf and its chain are printed unless --out names a file. Not in Consul.",
  arguments: "[request]",
  files: true,
  flags: [
    {
      ...{ name: "service", value: "NAME" },
      help: "service of the leaf (that of the token, or of the request)",
    },
    ...FLAGS,
    ...NAME_FLAGS,
  ],
  example: "meshca sign --service web --key-out web-key.pem --out web.pem",
  ...{ connects: true, json: true },
  async run(call) {
    const { flags, args } = call;
    const [path] = args;
    const keyOut = flags.text("key-out");
    if ((path === undefined) === (keyOut === null))
      throw usage(
        "meshca sign needs a certificate request (a file, or - for the standard input) or --key-out FILE",
      );
    requireNew([flags.text("out"), keyOut].filter((name) => name !== null));
    const made =
      path === undefined
        ? await makeKeyAndRequest({
            uri: null,
            dnsNames: flags.all("dns-name"),
            ipAddresses: flags.all("ip-address").map(addressOf),
          })
        : {
            csr: await readInput(path, "The certificate request", call.terminal),
            privateKey: null,
          };
    const leaf = await requestLeaf(
      call.connect(),
      { csr: made.csr, service: flags.text("service"), ttl: flags.text("ttl") },
      null,
    );
    return deliver(call, leaf, made.privateKey);
  },
};

export const renew: Command = {
  name: "renew",
  summary: "renew a leaf by its own key, without a token",
  details:
    "The new leaf has the identity and the names of the old one, and a new key, which --key-out names. Not in Consul.",
  flags: [
    { ...{ name: "cert", value: "FILE", file: true }, help: "the leaf that is renewed, in PEM" },
    { ...{ name: "key", value: "FILE", file: true }, help: "its private key, EC P-256 in PKCS#8" },
    ...FLAGS,
  ],
  example: "meshca renew --cert web.pem --key web-key.pem --key-out new-key.pem --out new.pem",
  ...{ connects: true, json: true },
  async run(call) {
    const { flags, terminal } = call;
    const [certPath, keyPath, keyOut] = ["cert", "key", "key-out"].map((name) => flags.text(name));
    if (certPath == null || keyPath == null || keyOut == null)
      throw usage("meshca renew needs --cert, --key and --key-out");
    requireNew([flags.text("out"), keyOut].filter((name) => name !== null));
    const leaf = blockOf(await readInput(certPath, "The leaf", terminal), certPath, "CERTIFICATE");
    const privateKey = blockOf(readKeyFile(keyPath), keyPath, "PRIVATE KEY");
    const { dnsNames, ipAddresses, trustDomain } = identityOf(leaf, certPath);
    const made = await makeKeyAndRequest({ uri: null, dnsNames, ipAddresses });
    const proof = await renewalProof(
      { chain: [leaf], privateKey },
      made.der,
      trustDomain,
      new Date(),
    ).catch((error: unknown) => {
      throw new Failure(
        EXIT.data,
        `The key ${JSON.stringify(keyPath)} must be a key of EC P-256 in PKCS#8`,
        error,
      );
    });
    const renewed = await requestLeaf(
      call.connect(),
      { csr: made.csr, service: null, ttl: flags.text("ttl") },
      proof,
    );
    return deliver(call, renewed, made.privateKey);
  },
};

/** The names of the leaf that is renewed, and its trust domain. @throws {Failure} */
function identityOf(der: Bytes, path: string) {
  try {
    const { uris, dnsNames, ipAddresses } = readCertificate(der);
    return { dnsNames, ipAddresses, trustDomain: parseSpiffeId(uris[0] ?? "").trustDomain };
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof RequestError)) throw error;
    throw new Failure(
      EXIT.data,
      `The file ${JSON.stringify(path)} is not a leaf of a mesh: ${error.message}`,
      error,
    );
  }
}

/** @throws {Failure} */
function addressOf(text: string) {
  const octets = ipOctets(text);
  if (octets === null) throw usage(`--ip-address ${JSON.stringify(text)} is not an IP address`);
  return octets;
}

/** Writes or prints a leaf, and what it is. @param privateKey PKCS#8 of a key that was made, or null */
function deliver(call: Call, leaf: LeafValue, privateKey: Bytes | null): number {
  const [out, keyOut] = [call.flags.text("out"), call.flags.text("key-out")];
  const id = leaf.ServiceURI ?? leaf.AgentURI ?? leaf.ServerURI ?? leaf.KindURI ?? "";
  const life = lifeText(new Date(leaf.ValidBefore), new Date());
  const about = `${id}, ${life}${leaf.RenewAfter === undefined ? "" : `, renew after ${leaf.RenewAfter}`}`;
  writeNewFiles([
    ...(keyOut === null || privateKey === null
      ? []
      : [{ path: keyOut, text: writePem("PRIVATE KEY", privateKey), mode: 0o600 }]),
    ...(out === null ? [] : [{ path: out, text: leaf.CertPEM, mode: 0o644 }]),
  ]);
  call.print(leaf, ({ CertPEM }) => (out === null ? CertPEM : `${out}: ${about}\n`));
  if (out === null && !call.json) call.terminal.note(about);
  return 0;
}

/** The first block of PEM with this label. @throws {Failure} */
function blockOf(text: string, path: string, label: string) {
  try {
    const block = readPem(text).find((one) => one.label === label);
    if (block !== undefined) return block.bytes;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
  throw new Failure(EXIT.data, `The file ${JSON.stringify(path)} has no block ${label} in PEM`);
}
