/**
 * `meshca tls cert create`: a certificate below the CA of `meshca tls ca create`, for TLS between a
 * server and its clients.
 * @module
 */
import { existsSync } from "node:fs";
import { readPrivateKey } from "../../../providers/consul/private-key.ts";
import type { Bytes } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import { pemOf, readCertificatePem } from "../../core/x509/certificate.ts";
import { isDnsLabel, isDnsName } from "../../core/x509/service-names.ts";
import { readRegularFile } from "../../entry/regular-file.ts";
import { processClock, systemRandom } from "../../entry/system.ts";
import { ipOctets } from "../../net/ip.ts";
import type { Command } from "../command.ts";
import { readKeyFile, writeNewFiles } from "../files.ts";
import type { Flags } from "../flags.ts";
import { goFileText } from "../go-file-text.ts";
import { EXIT, Failure, usage } from "../output.ts";
import { createTlsLeaf, type LeafRole, type MadeCertificate } from "../tls/certificates.ts";
import { daysOf, keyText } from "../tls/command-values.ts";
import { domainOf } from "./tls-ca-create.ts";

const DEFAULT_DAYS = "365";
/** Consul's rule for the name of a datacenter, which its command does not write in lower case. */
const DATACENTER = /^[\w-]{1,64}$/;
/** The numbers of files that are tried (Consul's command/tls/cert/create). */
const MAX_NUMBER = 10_000;

const SERVER_WARNING = `==> WARNING: Server Certificates grants authority to become a
    server and access all state in the cluster including root keys
    and all ACL tokens. Do not distribute them to production hosts
    that are not server nodes. Store them as securely as CA keys.
`;

export const tlsCertCreate: Command = {
  name: "create",
  summary: "create a certificate below the CA of meshca tls ca create",
  details:
    "Writes DC-ROLE-DOMAIN-N.pem and DC-ROLE-DOMAIN-N-key.pem into this folder, with the first number that is free.",
  flags: [
    { ...{ name: "server", value: null }, help: "for a server, server.DC.DOMAIN" },
    { ...{ name: "client", value: null }, help: "for a client, client.DC.DOMAIN" },
    { ...{ name: "cli", value: null }, help: "for a command line, cli.DC.DOMAIN" },
    {
      ...{ name: "ca", value: "FILE", file: true },
      help: "certificate of the CA (DOMAIN-agent-ca.pem)",
    },
    {
      ...{ name: "key", value: "FILE", file: true },
      help: "key of the CA (DOMAIN-agent-ca-key.pem)",
    },
    { ...{ name: "days", value: "N" }, help: `days until it expires (${DEFAULT_DAYS})` },
    { ...{ name: "dc", value: "DATACENTER" }, help: "datacenter (dc1)" },
    { ...{ name: "domain", value: "DOMAIN" }, help: "DNS domain (consul)" },
    {
      ...{ name: "node", value: "NAME" },
      help: "adds NAME.server.DC.DOMAIN; with -server",
    },
    {
      ...{ name: "additional-dnsname", value: "NAME", many: true },
      help: "DNS name; may be repeated",
    },
    {
      ...{ name: "additional-ipaddress", value: "ADDRESS", many: true },
      help: "IP address; may be repeated",
    },
  ],
  example: "meshca tls cert create -server -additional-dnsname ca.example.com",
  json: true,
  async run({ flags, terminal, json, print }) {
    const role = roleOf(flags);
    const [domain, datacenter, node] = [
      domainOf(flags),
      flags.text("dc") ?? "dc1",
      flags.text("node"),
    ];
    if (!DATACENTER.test(datacenter))
      throw usage(`-dc ${JSON.stringify(datacenter)} is not the name of a datacenter`);
    if (node !== null && role !== "server") throw usage("-node requires -server");
    if (node !== null && !isDnsLabel(node.toLowerCase()))
      throw usage(`-node ${JSON.stringify(node)} is not a DNS label`);
    const days = daysOf(flags.text("days") ?? DEFAULT_DAYS);
    const [caFile, keyFile] = [pathOf(flags, "ca", domain), pathOf(flags, "key", domain)];
    const names = namesOf(flags, { role, datacenter, domain, node });
    const ca = await readCa(caFile, keyFile);
    const prefix = `${datacenter}-${role}-${domain}`;
    const number = freeNumber(prefix);
    const leaf = await createTlsLeaf({
      ...{ ca, role, days, random: systemRandom, now: processClock.now() },
      ...names,
    }).catch((error: unknown) => {
      if (!(error instanceof FormatError)) throw error;
      throw new Failure(EXIT.data, `Cannot create the certificate: ${error.message}`, error);
    });
    const [certificatePath, keyPath] = [`${prefix}-${number}.pem`, `${prefix}-${number}-key.pem`];
    writeNewFiles([
      { path: certificatePath, text: pemOf(leaf.certificate), mode: 0o666 },
      { path: keyPath, text: await keyText(leaf.key), mode: 0o600 },
    ]);
    if (json) print({ CertificateFile: certificatePath, KeyFile: keyPath }, () => "");
    else
      terminal.write(
        `${role === "server" ? SERVER_WARNING : ""}==> Using ${caFile} and ${keyFile}\n==> Saved ${certificatePath}\n==> Saved ${keyPath}\n`,
      );
    return 0;
  },
};

function roleOf(flags: Flags): LeafRole {
  const roles = (["server", "client", "cli"] as const).filter((role) => flags.on(role));
  const [role, ...more] = roles;
  if (role === undefined || more.length > 0)
    throw usage("Please provide either -server, -client, or -cli");
  return role;
}

/** @throws {Failure} in Consul's words */
function pathOf(flags: Flags, name: "ca" | "key", domain: string): string {
  const path = flags.text(name) ?? `#DOMAIN#-agent-ca${name === "ca" ? "" : "-key"}.pem`;
  if (path === "") throw usage(`Please provide the ${name}`);
  return path.replaceAll("#DOMAIN#", domain);
}

interface Place {
  readonly role: LeafRole;
  readonly datacenter: string;
  readonly domain: string;
  readonly node: string | null;
}

/** Names in Consul's order. The command line's certificate has no additional DNS names there. */
function namesOf(
  flags: Flags,
  { role, datacenter, domain, node }: Place,
): { commonName: string; dnsNames: string[]; ipAddresses: Bytes[] } {
  const commonName = `${role}.${datacenter}.${domain}`;
  const more = flags.all("additional-dnsname");
  for (const name of more)
    if (!isDnsName(name.toLowerCase().replace(/^\*\./, "")))
      throw usage(`-additional-dnsname ${JSON.stringify(name)} is not a DNS name`);
  if (role === "cli" && more.length > 0)
    throw usage("-additional-dnsname has no effect with -cli; leave it out");
  const addresses = flags.all("additional-ipaddress").map((text) => {
    const octets = ipOctets(text);
    if (octets === null)
      throw usage(`-additional-ipaddress ${JSON.stringify(text)} is not an IP address`);
    return octets;
  });
  return {
    commonName,
    dnsNames: [
      ...more,
      ...(node === null ? [] : [`${node}.server.${datacenter}.${domain}`]),
      commonName,
      "localhost",
    ],
    ipAddresses: [...addresses, ...(role === "cli" ? [] : [Uint8Array.of(127, 0, 0, 1)])],
  };
}

/** @throws {Failure} with Consul's prefixes */
async function readCa(caFile: string, keyFile: string): Promise<MadeCertificate> {
  let text: string;
  try {
    text = readRegularFile(caFile);
  } catch (error) {
    throw new Failure(EXIT.noInput, `Error reading CA: ${goFileText(caFile, error)}`, error);
  }
  const keyPem = readKeyFile(
    keyFile,
    (error) =>
      new Failure(EXIT.noInput, `Error reading CA key: ${goFileText(keyFile, error)}`, error),
  );
  try {
    const certificate = readCertificatePem(text);
    if (!certificate.isCa) throw new FormatError("the certificate is not one of a CA");
    return { certificate, key: await readPrivateKey(keyPem) };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new Failure(
      EXIT.data,
      `Error reading CA: ${caFile}, ${keyFile}: ${error.message}`,
      error,
    );
  }
}

/** The first number whose files are both free. @throws {Failure} */
function freeNumber(prefix: string): number {
  for (let number = 0; number <= MAX_NUMBER; number++)
    if (!existsSync(`${prefix}-${number}.pem`) && !existsSync(`${prefix}-${number}-key.pem`))
      return number;
  throw new Failure(EXIT.cannotCreate, "Could not find a filename that doesn't already exist");
}
