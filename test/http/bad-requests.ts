/**
 * Signing requests that must be refused, each with the text of its refusal.
 * @module
 */

import { writePem } from "../../src/core/pem.ts";
import { bitString, encode, sequence } from "../../src/core/x509/der.ts";
import { HINTS } from "../../src/http/hints.ts";
import {
  askFor,
  type CraftedRequest,
  craftCsr,
  csrPem,
  derOf,
  ecSpki,
  named,
  rsaSpki,
  unsignedInteger,
  uriName,
} from "../core/x509/requests.ts";
import { opensslCsr } from "../fakes/ca.ts";

export interface BadRequest {
  readonly name: string;
  readonly csr: string;
  readonly says: string | RegExp;
}

/** The octets of the length that follows the first tag. */
function lengthOctets(der: Uint8Array): number {
  const first = der[1] ?? 0;
  return first < 0x80 ? 1 : 1 + (first & 0x7f);
}

/** A request whose outer length has an octet more than it needs. */
function overlongLength(der: Uint8Array): Uint8Array {
  const header = 1 + lengthOctets(der);
  const length = der.length - header;
  return Uint8Array.from([
    0x30,
    0x83,
    length >> 16,
    (length >> 8) & 0xff,
    length & 0xff,
    ...der.subarray(header),
  ]);
}

/** SEQUENCEs in one another, as many as fit into a request. */
function nested(): Uint8Array {
  let der: Uint8Array = new Uint8Array();
  while (der.length < 11_000) der = encode(sequence(der));
  return der;
}

const read = (says: string) => `Cannot read CSR: ${says}`;
const WHOLE = "send the file as it is, with curl --data-binary @FILE in place of -d";
const NO_PEM = read("no PEM-encoded data found");

/** Texts that are no request in PEM. */
export function badTexts(uri: string): BadRequest[] {
  const { csr, key } = opensslCsr(`URI:${uri}`);
  const der = derOf(csr);
  return [
    { name: "an empty body", csr: "", says: NO_PEM },
    { name: "words", csr: "please sign web", says: NO_PEM },
    { name: "base64 of something else than DER", csr: btoa("please sign web"), says: NO_PEM },
    {
      name: "base64 of a certificate's beginning",
      csr: btoa("0\u0082\u0001\u0000"),
      says: /^Cannot read CSR: /,
    },
    {
      name: "JSON without the key",
      csr: JSON.stringify({ request: csr }),
      says: /^Cannot read CSR: the body has an unknown key "request", known are CSR, Service, TTL; the body must be {"CSR": "<PEM>"}$/,
    },
    {
      name: "PEM on one line",
      csr: csr.replaceAll("\n", ""),
      says: read(`the line ends of the PEM text are lost; ${WHOLE}`),
    },
    {
      name: "PEM with blanks for line ends",
      csr: csr.replaceAll("\n", " "),
      says: read(`the line ends of the PEM text are lost; ${WHOLE}`),
    },
    {
      name: "PEM with line ends spelled out",
      csr: csr.replaceAll("\n", "\\n"),
      says: read(`the line ends of the PEM text are lost; ${WHOLE}`),
    },
    {
      name: "URL-encoded PEM",
      csr: encodeURIComponent(csr),
      says: read(`the CSR is URL-encoded; ${WHOLE}`),
    },
    {
      name: "PEM from a form",
      csr: new URLSearchParams([["", csr]]).toString(),
      says: read(`the CSR is URL-encoded; ${WHOLE}`),
    },
    {
      name: "PEM without its END line",
      csr: csr.replace(/-----END.*/, ""),
      says: read("PEM block CERTIFICATE REQUEST has no matching END line"),
    },
    {
      name: "PEM with another END line",
      csr: csr.replace("END CERTIFICATE REQUEST", "END CERTIFICATE"),
      says: read("PEM block CERTIFICATE REQUEST has no matching END line"),
    },
    {
      name: "PEM that is not base64",
      csr: csr.replace(/\n[A-Za-z0-9]{4}/, "\n!!!!"),
      says: read("PEM block CERTIFICATE REQUEST is not base64"),
    },
    {
      name: "PEM with headers",
      csr: csr.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n"),
      says: read("the PEM block must have no headers"),
    },
    {
      name: "a PEM block without content",
      csr: "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
      says: read("PEM block CERTIFICATE REQUEST is not base64"),
    },
    {
      name: "a certificate",
      csr: writePem("CERTIFICATE", der),
      says: read("first PEM-block should be CERTIFICATE REQUEST type"),
    },
    {
      name: "a private key",
      csr: key,
      says: read("first PEM-block should be CERTIFICATE REQUEST type"),
    },
    {
      name: "a private key before the request",
      csr: key + csr,
      says: read("first PEM-block should be CERTIFICATE REQUEST type"),
    },
    { name: "two requests", csr: csr + csr, says: read("there must be exactly one PEM block") },
    {
      name: "a request and its key",
      csr: csr + key,
      says: read("there must be exactly one PEM block"),
    },
    { name: "truncated DER", csr: csrPem(der.subarray(0, -1)), says: read("it ends too early") },
    { name: "DER of one octet", csr: csrPem(Uint8Array.of(0x30)), says: read("it ends too early") },
    {
      name: "octets after the DER",
      csr: csrPem(Uint8Array.of(...der, 0)),
      says: read("it has trailing data"),
    },
    {
      name: "a length that is not minimal",
      csr: csrPem(overlongLength(der)),
      says: read("it is encoded in BER with overlong lengths, not in DER"),
    },
    {
      name: "an indefinite length",
      csr: csrPem(Uint8Array.of(0x30, 0x80, ...der.subarray(1 + lengthOctets(der)), 0, 0)),
      says: read("it is encoded in BER with indefinite lengths, not in DER"),
    },
    {
      name: "a length of four octets",
      csr: csrPem(Uint8Array.of(0x30, 0x84, 0, 0, 0, 1, 0)),
      says: read("it ends too early"),
    },
    {
      name: "SEQUENCEs nested without end",
      csr: csrPem(nested()),
      says: /^Cannot read CSR: its version has the wrong ASN.1 type$/,
    },
  ];
}

/** Requests whose key or signature is not accepted. */
export function badKeys(uri: string): BadRequest[] {
  const made = (newkey: readonly string[], more: readonly string[] = []) =>
    opensslCsr(`URI:${uri}`, newkey, more).csr;
  const ec = (curve: string, ...more: readonly string[]) =>
    made(["-newkey", "ec", "-pkeyopt", `ec_paramgen_curve:${curve}`, ...more]);
  const crafted = (parts: CraftedRequest) =>
    csrPem(craftCsr({ attributes: [askFor(uriName(uri))], ...parts }));
  const good = derOf(made(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]));
  const forged = Uint8Array.from(good);
  const last = forged.length - 1;
  forged[last] = (forged[last] ?? 0) ^ 1;
  const proof = "Cannot accept CSR: its signature does not verify with its own public key";
  const curve = read("EC key must be on P-256, P-384 or P-521");
  return [
    { name: "a wrong signature", csr: csrPem(forged), says: proof },
    { name: "a signature that is not DER", csr: crafted({}), says: proof },
    {
      name: "a point that is not on its curve",
      csr: crafted({
        spki: ecSpki(named("p256"), Uint8Array.of(4, ...new Uint8Array(64).fill(1))),
        signature: bitString(
          encode(sequence(unsignedInteger(Uint8Array.of(1)), unsignedInteger(Uint8Array.of(1)))),
        ),
      }),
      says: proof,
    },
    {
      name: "a compressed point",
      csr: crafted({
        spki: ecSpki(named("p256"), Uint8Array.of(2, ...new Uint8Array(32).fill(1))),
      }),
      says: read("EC key must be an uncompressed point"),
    },
    {
      name: "RSA of 1024 bits",
      csr: made(["-newkey", "rsa:1024"]),
      says: read("RSA key must have 2048, 3072 or 4096 bits, this one has 1024"),
    },
    {
      name: "RSA of 16384 bits",
      csr: crafted({ spki: rsaSpki(16_384), scheme: "rsaSha256" }),
      says: read("RSA key must have 2048, 3072 or 4096 bits, this one has 16384"),
    },
    {
      name: "RSA with exponent 3",
      csr: made(["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]),
      says: read("RSA key must have the public exponent 65537"),
    },
    {
      name: "RSA with exponent 1",
      csr: crafted({ spki: rsaSpki(2048, [1]), scheme: "rsaSha256" }),
      says: read("RSA key must have the public exponent 65537"),
    },
    { name: "P-224", csr: ec("secp224r1"), says: curve },
    { name: "secp256k1", csr: ec("secp256k1"), says: curve },
    {
      name: "an EC key with explicit parameters",
      csr: ec("P-256", "-pkeyopt", "ec_param_enc:explicit"),
      says: read("EC key must name its curve"),
    },
    {
      name: "Ed448",
      csr: made(["-newkey", "ed448"]),
      says: read("key must be EC (P-256, P-384, P-521), RSA (2048, 3072, 4096) or Ed25519"),
    },
    {
      name: "a signature with SHA-1",
      csr: made(["-newkey", "rsa:2048"], ["-sha1"]),
      says: read(
        "signature algorithm RSA with SHA-1 is not one of ECDSA or RSA PKCS#1 with SHA-256, SHA-384 or SHA-512, or Ed25519",
      ),
    },
    {
      name: "a signature of another key type",
      csr: crafted({ scheme: "rsaSha256" }),
      says: read("its signature algorithm does not fit its ec key"),
    },
    {
      name: "version 3",
      csr: crafted({ version: unsignedInteger(Uint8Array.of(3)) }),
      says: read("its version must be 0"),
    },
  ];
}

/** Requests for identities that are not ours to give. */
export function badIdentities(trustDomain: string): BadRequest[] {
  const other = "99999999-2222-3333-4444-555555555555.consul";
  const id = (path: string, domain = trustDomain) => `spiffe://${domain}${path}`;
  const web = id("/ns/default/dc/dc1/svc/web");
  const ask = (name: string, san: string | null, says: string | RegExp): BadRequest => ({
    name,
    csr: opensslCsr(san).csr,
    says,
  });
  const raw = (name: string, uri: string, says: string | RegExp): BadRequest => ({
    name,
    csr: csrPem(craftCsr({ attributes: [askFor(uriName(uri))] })),
    says,
  });
  const form = (uri: string) => `SPIFFE ID is not in the expected format: ${uri}`;
  return [
    ask(
      "no names at all",
      null,
      /^CSR SAN contains an invalid number of URIs: 0; name the service/,
    ),
    ask("no URI", "DNS:web", /^CSR SAN contains an invalid number of URIs: 0; name the service/),
    ask(
      "two URIs",
      `URI:${web},URI:${id("/ns/default/dc/dc1/svc/api")}`,
      "CSR SAN contains an invalid number of URIs: 2",
    ),
    ask(
      "an e-mail address",
      `URI:${web},email:web@example.com`,
      "CSR SAN does not allow specifying email addresses",
    ),
    ask(
      "another kind of name",
      `URI:${web},RID:1.2.3.4`,
      read(
        "its subject alternative name has a registered ID: only URIs, DNS names and IP addresses can be asked for",
      ),
    ),
    ask(
      "a DNS name",
      `URI:${web},DNS:google.com`,
      `Cannot sign leaf for "${web}": it is not allowed to have the DNS name "google.com": its DNS names are "web", "web.service.consul", "web.service.dc1.consul", "web.virtual.consul"; ${HINTS.serviceDnsNames}`,
    ),
    ask(
      "the DNS name of a server, for a service",
      `URI:${web},DNS:server.dc1.peering.${trustDomain}`,
      /it is not allowed to have the DNS name "server\.dc1\.peering\./,
    ),
    ask(
      "an IP address",
      `URI:${web},IP:8.8.8.8`,
      `Cannot sign leaf for "${web}": it is not allowed to have the IP address 8.8.8.8: no service is allowed to have one; ${HINTS.serviceIpRanges}`,
    ),
    ask(
      "another trust domain",
      `URI:${id("/ns/default/dc/dc1/svc/web", other)}`,
      `SPIFFE ID in CSR from a different trust domain: ${other}, we are ${trustDomain}`,
    ),
    ask(
      "an agent of another trust domain",
      `URI:${id("/agent/client/dc/dc1/id/x", other)}`,
      `SPIFFE ID in CSR from a different trust domain: ${other}, we are ${trustDomain}`,
    ),
    ask(
      "another datacenter",
      `URI:${id("/ns/default/dc/dc2/svc/web")}`,
      "SPIFFE ID in CSR from a different datacenter: dc2, we are dc1",
    ),
    ask(
      "the trust domain itself",
      `URI:${id("")}`,
      "SPIFFE ID in CSR must be a service, mesh-gateway, or agent ID",
    ),
    ask("an unknown path", `URI:${id("/foo")}`, form(id("/foo"))),
    ask(
      "an empty service",
      `URI:${id("/ns/default/dc/dc1/svc/")}`,
      form(id("/ns/default/dc/dc1/svc/")),
    ),
    ask("a longer path", `URI:${web}/x`, form(`${web}/x`)),
    ask("a web address", "URI:http://example.com/", "SPIFFE ID must have 'spiffe' scheme"),
    ...["%zz", "web%2", "%ff", "a%2fb", "%2e%2e", "a%00", "%77eb", "we%62"].map((service) =>
      raw(
        `the service ${service}`,
        id(`/ns/default/dc/dc1/svc/${service}`),
        `SPIFFE ID must not be percent-encoded: "${id(`/ns/default/dc/dc1/svc/${service}`)}"; a path segment has letters, digits, '.', '-' and '_'`,
      ),
    ),
    raw(
      "an escape in the datacenter",
      id("/ns/default/dc/%64c1/svc/web"),
      /^SPIFFE ID must not be percent-encoded: /,
    ),
    raw(
      "an escape in a fixed word",
      id("/n%73/default/dc/dc1/svc/web"),
      /^SPIFFE ID must not be percent-encoded: /,
    ),
    ...["w~b", "a:b", "a@b", "a+b", "a,b", "a!b", "a=b"].map((service) =>
      raw(
        `the service ${service}`,
        id(`/ns/default/dc/dc1/svc/${service}`),
        `Invalid service: "${service}" has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed`,
      ),
    ),
    raw(
      "a dot segment",
      id("/ns/default/dc/dc1/svc/.."),
      'Invalid service: ".." is a dot segment, which a SPIFFE ID must not have',
    ),
    ...["/ns/default/dc/dc1/svc/web", "/agent/client/dc/dc1/id/n", "/gateway/mesh/dc/dc1"].map(
      (path) =>
        raw(
          `the default partition named in ${path}`,
          id(`/ap/default${path}`),
          'Invalid admin partition: "default" is not named in a SPIFFE ID; leave "/ap/default" out',
        ),
    ),
    raw(
      "a partition in upper case",
      id("/ap/DEFAULT/gateway/mesh/dc/dc1"),
      'Invalid admin partition: "DEFAULT" must be in lower case',
    ),
    raw(
      "a service of another namespace",
      id("/ns/other/dc/dc1/svc/web"),
      "Non default partition or namespace is supported in Enterprise only.Provided namespace is other and partition is default",
    ),
    raw(
      "a service of a partition",
      id("/ap/east/ns/default/dc/dc1/svc/web"),
      "Non default partition or namespace is supported in Enterprise only.Provided namespace is default and partition is east",
    ),
    raw(
      "an agent of a partition",
      id("/ap/east/agent/client/dc/dc1/id/n"),
      "Non default partition is supported in Enterprise only.Provided partition is east",
    ),
    raw(
      "a mesh gateway of a partition",
      id("/ap/east/gateway/mesh/dc/dc1"),
      "Non default partition is supported in Enterprise only.Provided partition is east",
    ),
    raw("a trailing slash", `${web}/`, form(`${web}/`)),
    raw(
      "an empty segment",
      id("//ns/default/dc/dc1/svc/web"),
      form(id("//ns/default/dc/dc1/svc/web")),
    ),
    raw("a fragment", `${web}#x`, form(`${web}#x`)),
    raw("a query", `${web}?x`, form(`${web}?x`)),
    raw(
      "a port",
      id("/ns/default/dc/dc1/svc/web", `${trustDomain}:1`),
      /^SPIFFE ID is not in the expected format: /,
    ),
    raw(
      "a user",
      id("/ns/default/dc/dc1/svc/web", `a@${trustDomain}`),
      /^SPIFFE ID is not in the expected format: /,
    ),
    raw(
      "a URI of 1025 characters",
      web.padEnd(1025, "x"),
      /^Cannot read CSR: its URI is longer than 1024 characters/,
    ),
    raw(
      "a URI that is not ASCII",
      `${web}\u00e9`,
      read("its subject alternative name is not printable ASCII"),
    ),
  ];
}
