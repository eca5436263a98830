/**
 * Roots above Vault as operators bring them: an issuer under which no leaf could verify is refused
 * with the certificate and the reason, never with 500, and nothing is created in Vault.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { rootsInUse } from "../core/ca/harness.ts";
import { inFolder, openssl, opensslCsr, serviceUri } from "../fakes/ca.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { startVerifiers } from "../verifiers/x509/verifiers.ts";
import { createVaultCa, readSent, toVault, vaultConfig } from "./harness.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "./server.ts";

/** Extensions of a certificate, as lines of OpenSSL's configuration. */
type Extensions = readonly string[];

interface Chain {
  readonly root: Extensions;
  /** What stands between the root and Vault's issuer. */
  readonly middle?: Extensions;
  readonly issuer: Extensions;
}

const CA: Extensions = [
  "basicConstraints=critical,CA:TRUE",
  "keyUsage=critical,keyCertSign,cRLSign",
  "subjectKeyIdentifier=hash",
];
const withPathLength = (length: number): Extensions => [
  `basicConstraints=critical,CA:TRUE,pathlen:${length}`,
  ...CA.slice(1),
];

/** A key and the certificates of a chain, the issuer's first, as Vault imports them. */
function bundle({ root, middle, issuer }: Chain): string {
  return inFolder((folder) => {
    const file = (name: string) => join(folder, name);
    const make = (name: string, extensions: Extensions, above: string | null): void => {
      writeFileSync(
        file(`${name}.cnf`),
        `[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n${extensions.join("\n")}\n`,
      );
      openssl(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file(`${name}.key`)]);
      const signing =
        above === null ? [] : ["-CA", file(`${above}.pem`), "-CAkey", file(`${above}.key`)];
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
  const configure = async (
    pem: string,
    LeafSigning: string,
  ): Promise<[status: number, text: string]> => {
    const config = vaultConfig(vault, { LeafSigning });
    await vault.must("POST", `sys/mounts/${config.RootPKIPath}`, {
      type: "pki",
      config: { max_lease_ttl: "87600h" },
    });
    const { data } = await vault.must("POST", `${config.RootPKIPath}/issuers/import/bundle`, {
      pem_bundle: pem,
    });
    const [issuer] =
      Object.entries(data.mapping as Record<string, string>).find(([, key]) => key !== "") ?? [];
    await vault.must("POST", `${config.RootPKIPath}/config/issuers`, { default: issuer });
    const body = JSON.stringify({
      Provider: "vault",
      Config: config,
      ForceWithoutCrossSigning: true,
    });
    const answer = await fetch(`${server.url}/v1/connect/ca/configuration`, {
      method: "PUT",
      body,
    });
    return [answer.status, await answer.text()];
  };

  it("is required of Vault only: a server at Address that answers something else is answered with 400", async () => {
    const other = createServer((_request, answer) =>
      answer.setHeader("Content-Type", "application/json").end('{"data":{}}'),
    );
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const bound = other.address();
    assert.ok(typeof bound === "object" && bound !== null);
    const config = vaultConfig(vault, { Address: `http://127.0.0.1:${bound.port}` });
    const body = JSON.stringify({ Provider: "vault", Config: config });
    const answer = await fetch(`${server.url}/v1/connect/ca/configuration`, {
      method: "PUT",
      body,
    });
    const text = await answer.text();
    other.close();
    assert.match(text, /^error configuring provider: Vault: /);
    assert.equal(answer.status, 400, text);
  });

  for (const LeafSigning of ["vault", "local"])
    for (const [name, chain] of [
      ["a path length of 2", { root: withPathLength(2), issuer: withPathLength(1) }],
      [
        "no path length, with a certificate in between",
        { root: CA, middle: withPathLength(2), issuer: CA },
      ],
      ["an unknown extension", { root: [...CA, "1.2.3.4.5=DER:0500"], issuer: CA }],
    ] as const)
      it(`is taken with ${name}, with LeafSigning ${LeafSigning}`, async () => {
        assert.deepEqual(await configure(bundle(chain), LeafSigning), [200, ""]);
      });

  const replaced = (...lines: Extensions): Extensions => [
    ...CA.filter((line) => !lines.some((other) => other.split("=")[0] === line.split("=")[0])),
    ...lines,
  ];
  const refused: readonly (readonly [name: string, chain: Chain, text: RegExp])[] = [
    [
      "a path length of 1",
      { root: withPathLength(1), issuer: CA },
      /the root above it has a path length constraint of 1, and 2 CA certificates must be allowed below it/,
    ],
    [
      "an issuer whose authority key identifier is of another key",
      { root: CA, issuer: [...CA, "2.5.29.35=DER:3006800401020304"] },
      /its issuer has an authority key identifier that is not its issuer's key identifier/,
    ],
    [
      "a root whose authority key identifier is of another key",
      { root: [...CA, "2.5.29.35=DER:3006800401020304"], issuer: CA },
      /the root above it has an authority key identifier that is not its own key identifier/,
    ],
    [
      "an issuer with a path length of 0",
      { root: CA, issuer: withPathLength(0) },
      /its issuer has a path length constraint of 0, and 1 CA certificates must/,
    ],
    [
      "a certificate in between with a path length of 1",
      { root: CA, middle: withPathLength(1), issuer: CA },
      /a certificate between it and its root has a path length constraint of 1/,
    ],
    [
      "name constraints",
      { root: replaced("nameConstraints=permitted;URI:.example.com"), issuer: CA },
      /the root above it has name constraints that do not permit the URI spiffe:/,
    ],
    [
      "an issuer with name constraints",
      { root: CA, issuer: replaced("nameConstraints=critical,excluded;URI:.consul") },
      /its issuer has name constraints that exclude the URI spiffe:/,
    ],
    [
      "an extended key usage",
      { root: CA, issuer: replaced("extendedKeyUsage=anyExtendedKeyUsage") },
      /its issuer has an extended key usage without clientAuth and serverAuth/,
    ],
    [
      "basic constraints that are not critical",
      { root: replaced("basicConstraints=CA:TRUE"), issuer: CA },
      /the root above it has basic constraints that are not critical/,
    ],
    [
      "policy constraints on its issuer",
      { root: CA, issuer: replaced("policyConstraints=requireExplicitPolicy:1") },
      /its issuer has policy constraints that demand a policy of every leaf/,
    ],
    [
      "empty certificate policies",
      { root: replaced("2.5.29.32=DER:3000"), issuer: CA },
      /the root above it has the malformed extension 2\.5\.29\.32 \(certificate policies\), which is empty/,
    ],
    [
      "an unknown critical extension",
      { root: replaced("1.2.3.4.5=critical,DER:0500"), issuer: CA },
      /the root above it has the critical extension 1\.2\.3\.4\.5/,
    ],
    [
      "no subject key identifier",
      { root: replaced("subjectKeyIdentifier=none"), issuer: CA },
      /the root above it has no subject key identifier/,
    ],
  ];
  for (const [name, chain, text] of refused)
    it(`is refused with ${name}, also by force, and nothing is made in Vault`, async () => {
      const [status, answer] = await configure(bundle(chain), "local");
      assert.match(answer, text);
      assert.match(answer, /^error configuring provider: RootPKIPath: /);
      assert.equal(status, 400);
    });
});

describe("leaves below a root above Vault", { skip: noOwnVault }, () => {
  let vault: VaultServer;
  let verifiers: ReturnType<typeof startVerifiers>;
  before(
    async () => {
      vault = await startVault({ kind: "openbao" });
      verifiers = startVerifiers();
    },
    { timeout: BUILD_MS },
  );
  after(async () => {
    verifiers?.close();
    await vault?.stop();
  });

  const adopt = async (pem: string): Promise<Record<string, unknown>> => {
    const config = vaultConfig(vault, { LeafSigning: "local" });
    await vault.must("POST", `sys/mounts/${config.RootPKIPath}`, {
      type: "pki",
      config: { max_lease_ttl: "87600h" },
    });
    const { data } = await vault.must("POST", `${config.RootPKIPath}/issuers/import/bundle`, {
      pem_bundle: pem,
    });
    const [issuer] =
      Object.entries(data.mapping as Record<string, string>).find(([, key]) => key !== "") ?? [];
    await vault.must("POST", `${config.RootPKIPath}/config/issuers`, { default: issuer });
    return config;
  };

  for (const [name, chain] of [
    ["a path length of 2", { root: withPathLength(2), issuer: withPathLength(1) }],
    [
      "constraints that forbid nothing",
      {
        root: [
          ...CA,
          "nameConstraints=critical,excluded;DNS:example.com",
          "policyConstraints=requireExplicitPolicy:0",
        ],
        issuer: [
          ...CA,
          "extendedKeyUsage=serverAuth,clientAuth",
          "nameConstraints=permitted;DNS:consul,permitted;DNS:localhost",
        ],
      },
    ],
  ] as const)
    it(`verify by OpenSSL, Go and the JDK with ${name}, before and after the next rotation`, {
      timeout: 60_000,
    }, async () => {
      const pem = bundle(chain);
      const ca = await createVaultCa();
      const csr = opensslCsr(`URI:${serviceUri(ca.manager, "web")}`).csr;
      const requireVerified = async () => {
        const { leaf, intermediates } = readSent((await ca.manager.sign(csr)).certificatePem);
        for (const { certificate } of rootsInUse(ca.manager.require().state, ca.clock.now()))
          for (const verifier of verifiers.verifiers) {
            const question = {
              leaf: leaf.der,
              chain: intermediates.map(({ der }) => der),
              roots: [certificate.der],
              at: ca.clock.now(),
            };
            assert.equal(
              await verifier.verify(question),
              null,
              `${verifier.name}, root ${certificate.id}`,
            );
          }
      };
      await ca.manager.configure(toVault(await adopt(pem)));
      await requireVerified();
      const next = {
        provider: "consul",
        config: {},
        state: null,
        forceWithoutCrossSigning: false,
        modifyIndex: null,
      };
      await ca.manager.configure(next);
      await requireVerified();
      // There is room for one rotation below this path length: the second one is refused, not
      // broken.
      const rotated = ca.manager.configure({ ...next, config: { PrivateKeyBits: 384 } });
      if (name.startsWith("a path length"))
        await assert.rejects(rotated, /would not verify under it/);
      else await rotated;
      await requireVerified();
    });
});
