/**
 * Certificates for TLS to a server of Vault's API.
 * @module
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** A CA with a server's and a client's certificate, made by openssl in a folder. */
export function makePki(folder: string, name: string): void {
  const file = (suffix: string) => join(folder, `${name}-${suffix}`);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  openssl(
    "req",
    "-x509",
    ...key,
    "-keyout",
    file("ca.key"),
    "-out",
    file("ca.pem"),
    "-subj",
    `/CN=${name} ca`,
  );
  for (const [who, extension] of [
    ["server", "subjectAltName=IP:127.0.0.1,DNS:vault.test"],
    ["client", "extendedKeyUsage=clientAuth"],
  ] as const) {
    writeFileSync(file("ext"), `${extension}\nbasicConstraints=critical,CA:FALSE\n`);
    openssl(
      "req",
      ...key,
      "-keyout",
      file(`${who}.key`),
      "-out",
      file(`${who}.csr`),
      "-subj",
      `/CN=mesh-${who}`,
    );
    openssl(
      "x509",
      "-req",
      "-in",
      file(`${who}.csr`),
      "-CA",
      file("ca.pem"),
      "-CAkey",
      file("ca.key"),
      "-CAcreateserial",
      "-days",
      "2",
      "-extfile",
      file("ext"),
      "-out",
      file(`${who}.pem`),
    );
  }
}
