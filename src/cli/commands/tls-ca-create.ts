/**
 * `meshca tls ca create`: a CA in two files. With `-cluster-id` or `-trust-domain` it is a root that
 * `connect ca set-config` takes.
 * @module
 */
import { existsSync } from "node:fs";
import { trustDomainFault } from "../../core/spiffe/trust-domain.ts";
import { pemOf } from "../../core/x509/certificate.ts";
import type { CaKeySpec } from "../../core/x509/keys.ts";
import { isDnsName } from "../../core/x509/service-names.ts";
import { processClock, systemRandom } from "../../entry/system.ts";
import type { Command } from "../command.ts";
import { writeNewFiles } from "../files.ts";
import type { Flags } from "../flags.ts";
import { EXIT, Failure, usage } from "../output.ts";
import { createTlsCa } from "../tls/certificates.ts";
import { daysOf, keyText } from "../tls/command-values.ts";

/** Five years (Consul's default). */
const DEFAULT_DAYS = "1825";

export const tlsCaCreate: Command = {
  name: "create",
  summary: "create a CA for TLS, or a root for a mesh",
  details:
    "Writes DOMAIN-agent-ca.pem and DOMAIN-agent-ca-key.pem into this folder. With -cluster-id or -trust-domain the certificate is a root of that mesh, which connect ca set-config takes as RootCert and PrivateKey; delete the key file after that. The trust domain of a mesh is printed by meshca connect ca roots.",
  flags: [
    { ...{ name: "days", value: "N" }, help: `days until it expires (${DEFAULT_DAYS})` },
    {
      ...{ name: "domain", value: "DOMAIN" },
      help: "DNS domain, for file names, names and constraints (consul)",
    },
    {
      ...{ name: "cluster-id", value: "UUID" },
      help: "makes a root of the trust domain UUID.DOMAIN",
    },
    {
      ...{ name: "trust-domain", value: "NAME" },
      help: "makes a root of this trust domain",
    },
    {
      ...{ name: "common-name", value: "NAME" },
      help: "common name (Consul Agent CA and the serial number)",
    },
    {
      ...{ name: "name-constraint", value: null },
      help: "permits only DNS names of the domain and localhost below it",
    },
    {
      ...{ name: "additional-name-constraint", value: "NAME", many: true },
      help: "permits these DNS names too; with -name-constraint, may be repeated",
    },
    {
      ...{ name: "key-type", value: "TYPE", choices: ["ec", "rsa"] },
      help: "ec or rsa (ec)",
    },
    {
      ...{ name: "key-bits", value: "N", choices: ["256", "384", "521", "2048", "3072", "4096"] },
      help: "bits of the key (256 or 2048)",
    },
  ],
  example: "meshca tls ca create -cluster-id 7d0bf800-7d57-4a82-37c8-1947050801c0 -days 365",
  json: true,
  async run({ flags, terminal, json, print }) {
    const domain = domainOf(flags);
    const [certificateFile, keyFile] = [`${domain}-agent-ca.pem`, `${domain}-agent-ca-key.pem`];
    const days = daysOf(flags.text("days") ?? DEFAULT_DAYS);
    const made = {
      commonName: flags.text("common-name"),
      trustDomain: trustDomainOf(flags, domain),
      permitted: permittedOf(flags, domain),
      key: keySpecOf(flags),
    };
    // Before a key of RSA is searched for.
    for (const path of [certificateFile, keyFile])
      if (existsSync(path)) throw new Failure(EXIT.cannotCreate, `${path} already exists.`);
    const { certificate, key } = await terminal.progress(
      "Creating the CA",
      createTlsCa({ ...made, days, random: systemRandom, now: processClock.now() }),
    );
    writeNewFiles([
      { path: certificateFile, text: pemOf(certificate), mode: 0o666 },
      { path: keyFile, text: await keyText(key), mode: 0o600 },
    ]);
    const files = { CertificateFile: certificateFile, KeyFile: keyFile };
    if (json) print(files, () => "");
    else terminal.write(`==> Saved ${certificateFile}\n==> Saved ${keyFile}\n`);
    return 0;
  },
};

/** The DNS domain as it is given: names of files have it so. @throws {Failure} */
export function domainOf(flags: Flags): string {
  const domain = flags.text("domain") ?? "consul";
  if (!isDnsName(domain.toLowerCase()))
    throw usage(`-domain ${JSON.stringify(domain)} is not a DNS name`);
  return domain;
}

function trustDomainOf(flags: Flags, domain: string): string | null {
  const [clusterId, own] = [flags.text("cluster-id"), flags.text("trust-domain")];
  if (clusterId !== null && own !== null)
    throw usage("-cluster-id and -trust-domain are both given; give one of them");
  if (clusterId === "") throw usage("-cluster-id is empty");
  const name = own ?? (clusterId === null ? null : `${clusterId}.${domain}`.toLowerCase());
  if (name === null) return null;
  const fault = trustDomainFault(name);
  if (fault === null) return name;
  throw usage(
    `${own === null ? "-cluster-id" : "-trust-domain"} ${JSON.stringify(name)}: ${fault}`,
  );
}

function permittedOf(flags: Flags, domain: string): string[] | null {
  const more = flags.all("additional-name-constraint");
  if (!flags.on("name-constraint")) {
    if (more.length > 0) throw usage("-additional-name-constraint needs -name-constraint");
    return null;
  }
  for (const name of more)
    if (!isDnsName(name.toLowerCase()))
      throw usage(`-additional-name-constraint ${JSON.stringify(name)} is not a DNS name`);
  return [...more, domain, "localhost"];
}

/** The key that -key-type and -key-bits describe. @throws {Failure} */
export function keySpecOf(flags: Flags): CaKeySpec {
  const type = flags.text("key-type") ?? "ec";
  const bits = Number(flags.text("key-bits") ?? (type === "rsa" ? 2048 : 256));
  if (type === "ec" && (bits === 256 || bits === 384 || bits === 521)) return { type, bits };
  if (type === "rsa" && (bits === 2048 || bits === 4096)) return { type, bits };
  throw usage(
    type === "ec" || type === "rsa"
      ? `-key-bits of ${type} is one of ${type === "ec" ? "256, 384, 521" : "2048, 4096"}, not ${JSON.stringify(flags.text("key-bits"))}`
      : `-key-type is ec or rsa, not ${JSON.stringify(type)}`,
  );
}
