/**
 * Roots above Vault as operators bring them: what no leaf could verify under is refused with the certificate and the reason,
 * never with 500, and nothing is made in Vault.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { inFolder, openssl } from "../fakes/ca.ts";
import { type ServerProcess, startServer } from "../http/process.ts";
import { vaultConfig } from "./harness.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "./server.ts";

/** Extensions of a certificate, as lines of OpenSSL's configuration. */
type Extensions = readonly string[];

interface Chain {
  readonly root: Extensions;
  /** What stands between the root and Vault's issuer. */
  readonly middle?: Extensions;
  readonly issuer: Extensions;
}

const CA: Extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash"];
const withPathLength = (length: number): Extensions => [`basicConstraints=critical,CA:TRUE,pathlen:${length}`, ...CA.slice(1)];

/** A key and the certificates of a chain, the issuer's first, as Vault imports them. */
function bundle({ root, middle, issuer }: Chain): string {
  return inFolder((folder) => {
    const file = (name: string) => join(folder, name);
    const make = (name: string, extensions: Extensions, above: string | null): void => {
      writeFileSync(file(`${name}.cnf`), `[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n${extensions.join("\n")}\n`);
      openssl(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file(`${name}.key`)]);
      const signing = above === null ? [] : ["-CA", file(`${above}.pem`), "-CAkey", file(`${above}.key`)];
      const out = ["-subj", `/CN=${name}`, "-days", "3650", "-out", file(`${name}.pem`)];
      openssl([
        "req",
        "-x509",
        "-new",
        "-key",
        file(`${name}.key`),
        "-config",
        file(`${name}.cnf`),
        "-extensions",
        "ext",
        ...signing,
        ...out,
      ]);
    };
    make("External Root", root, null);
    if (middle !== undefined) make("External Middle", middle, "External Root");
    make("External Issuer", issuer, middle === undefined ? "External Root" : "External Middle");
    const names = [
      "External Issuer.key",
      "External Issuer.pem",
      ...(middle === undefined ? [] : ["External Middle.pem"]),
      "External Root.pem",
    ];
    return names.map((name) => readFileSync(file(name), "utf8")).join("");
  });
}

describe("a root above Vault", { skip: noOwnVault }, () => {
  let vault: VaultServer;
  let server: ServerProcess;
  before(
    async () => {
      vault = await startVault({ kind: "openbao" });
      server = await startServer();
    },
    { timeout: BUILD_MS },
  );
  after(async () => {
    await server?.stop();
    await vault?.stop();
  });

  /** Has an operator import a chain, and configures it. */
  const configure = async (pem: string, LeafSigning: string): Promise<[status: number, text: string]> => {
    const config = vaultConfig(vault, { LeafSigning });
    await vault.must("POST", `sys/mounts/${config.RootPKIPath}`, { type: "pki", config: { max_lease_ttl: "87600h" } });
    const { data } = await vault.must("POST", `${config.RootPKIPath}/issuers/import/bundle`, { pem_bundle: pem });
    const [issuer] = Object.entries(data.mapping as Record<string, string>).find(([, key]) => key !== "") ?? [];
    await vault.must("POST", `${config.RootPKIPath}/config/issuers`, { default: issuer });
    const body = JSON.stringify({ Provider: "vault", Config: config, ForceWithoutCrossSigning: true });
    const answer = await fetch(`${server.url}/v1/connect/ca/configuration`, { method: "PUT", body });
    return [answer.status, await answer.text()];
  };

  it("is asked of Vault alone: a server at Address that answers something else is answered with 400", async () => {
    const other = createServer((_request, answer) => answer.setHeader("Content-Type", "application/json").end('{"data":{}}'));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const bound = other.address();
    assert.ok(typeof bound === "object" && bound !== null);
    const config = vaultConfig(vault, { Address: `http://127.0.0.1:${bound.port}` });
    const body = JSON.stringify({ Provider: "vault", Config: config });
    const answer = await fetch(`${server.url}/v1/connect/ca/configuration`, { method: "PUT", body });
    const text = await answer.text();
    other.close();
    assert.match(text, /^error configuring provider: Vault: /);
    assert.equal(answer.status, 400, text);
  });

  for (const LeafSigning of ["vault", "local"])
    for (const [name, chain] of [
      ["a path length of 2", { root: withPathLength(2), issuer: withPathLength(1) }],
      ["no path length, with a certificate in between", { root: CA, middle: withPathLength(2), issuer: CA }],
      ["an extension that nobody knows", { root: [...CA, "1.2.3.4.5=DER:0500"], issuer: CA }],
    ] as const)
      it(`is taken with ${name}, with LeafSigning ${LeafSigning}`, async () => {
        assert.deepEqual(await configure(bundle(chain), LeafSigning), [200, ""]);
      });
});
