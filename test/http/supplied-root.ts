/**
 * Roots that an operator brings along, made by openssl.
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inFolder, openssl } from "../fakes/ca.ts";

export interface SuppliedRoot {
  readonly key: string;
  readonly certificate: string;
}

export interface SuppliedRootOptions {
  /** openssl's arguments for the key. */
  readonly newkey?: readonly string[];
  /** Lines of the extensions' section, in place of those of a root that is accepted. */
  readonly extensions?: readonly string[];
  /** From when to when it is valid, in ASN.1's form; now and 30 days where none is given. */
  readonly validity?: readonly [string, string];
}

/** The extensions of a root that a CA of this trust domain accepts. */
export function rootExtensions(trustDomain: string): string[] {
  return [
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
    `subjectAltName=URI:spiffe://${trustDomain}`,
  ];
}

/** Makes a key and a self-signed root for it. */
export function makeRoot(trustDomain: string, options: SuppliedRootOptions = {}): SuppliedRoot {
  const {
    newkey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    extensions = rootExtensions(trustDomain),
    validity,
  } = options;
  return inFolder((folder) => {
    const path = (name: string) => join(folder, name);
    const [key, certificate, config] = [path("key.pem"), path("root.pem"), path("root.cnf")];
    writeFileSync(config, configFile(folder, extensions));
    const request = ["req", "-config", config, ...newkey, "-nodes", "-keyout", key];
    if (validity === undefined) openssl([...request, "-x509", "-out", certificate]);
    else {
      writeFileSync(path("index"), "");
      openssl([...request, "-new", "-out", path("csr.pem")]);
      const dates = ["-startdate", validity[0], "-enddate", validity[1]];
      const files = [
        "-config",
        config,
        "-keyfile",
        key,
        "-in",
        path("csr.pem"),
        "-out",
        certificate,
      ];
      openssl([
        "ca",
        "-batch",
        "-selfsign",
        "-create_serial",
        "-notext",
        "-extensions",
        "ext",
        ...files,
        ...dates,
      ]);
    }
    return { key: readFileSync(key, "utf8"), certificate: readFileSync(certificate, "utf8") };
  });
}

function configFile(folder: string, extensions: readonly string[]): string {
  return [
    "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no",
    "[dn]\nCN=Operator Root",
    `[ext]\n${extensions.join("\n")}`,
    "[ca]\ndefault_ca=own",
    `[own]\ndatabase=${join(folder, "index")}\nserial=${join(folder, "serial")}\nnew_certs_dir=${folder}\ndefault_md=sha256\npolicy=any`,
    "[any]\ncommonName=supplied\n",
  ].join("\n");
}
