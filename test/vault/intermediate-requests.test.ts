/**
 * A request for the CA of another datacenter that is refused never reaches the Vault that holds the
 * primary's root.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, createPublicKey, X509Certificate } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { readCertificatePem } from "../../src/core/x509/certificate.ts";
import { opensslCsr, trustDomain } from "../fakes/ca.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";
import { type CountingProxy, startCounting } from "./counting.ts";
import { bootstrapIn, createVaultCa, vaultConfig } from "./harness.ts";
import { BUILD_MS, noVault, startVault, type VaultServer, vaultKinds } from "./server.ts";

const SIGN = "/v1/connect/ca/sign-intermediate";
const CN = ["-subj", "/CN=sec-test.consul"];
type Config = Readonly<Record<string, unknown>>;

for (const kind of vaultKinds)
  describe(`the request of another datacenter's CA, by ${kind}`, { skip: noVault }, () => {
    let server: VaultServer;
    let proxy: CountingProxy;
    let config: Config;
    let test: Guarded;
    before(
      async () => {
        server = await startVault({ kind });
        proxy = await startCounting(server);
        config = vaultConfig(server, { Address: proxy.address });
        test = await guarded(
          await createVaultCa({ bootstrap: bootstrapIn(config), hasDatacenters: true }),
        );
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      await test.manager.close();
      await proxy.stop();
      await server.stop();
    });

    const ownName = () => `URI:spiffe://${trustDomain(test.manager)}`;
    const requestOf = (san: string | null, more: readonly string[] = CN) =>
      opensslCsr(san, undefined, more).csr;

    /** A request by the key of an issuer of this CA in Vault, which signs it. */
    async function requestByOwnKey(mount: unknown): Promise<string> {
      const { keys } = (await server.must("GET", `${mount}/keys?list=true`)).data;
      const { data } = await server.must("POST", `${mount}/intermediate/generate/existing`, {
        key_ref: keys[0],
        common_name: "sec-test.consul",
        uri_sans: `spiffe://${trustDomain(test.manager)}`,
        exclude_cn_from_sans: true,
      });
      return data.csr;
    }

    function subjectOf(
      { active }: ReturnType<Guarded["manager"]["require"]>,
      at: "root" | "issuer",
    ) {
      const certificate = at === "root" ? active.certificate : active.intermediates[0];
      assert.ok(certificate !== undefined);
      const { subject } = new X509Certificate(certificate.der);
      return ["-subj", `/${subject}`];
    }

    function unproved(): string {
      const der = Buffer.from(requestOf(ownName()).replace(/-----[^-]+-----|\s/g, ""), "base64");
      // A digit of the common name.
      der[der.indexOf("sec-test")] = "S".charCodeAt(0);
      return `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
    }

    const CASES: readonly (readonly [
      what: string,
      csr: () => string | Promise<string>,
      reason: RegExp,
    ])[] = [
      [
        "the ID of a service",
        () => requestOf(`${ownName()}/ns/default/dc/dc2/svc/web`),
        /must have the one name/,
      ],
      ["another trust domain", () => requestOf("URI:spiffe://other.consul"), /the one name/],
      ["a second URI", () => requestOf(`${ownName()},URI:spiffe://other.consul`), /URI|one name/],
      ["a DNS name", () => requestOf(`${ownName()},DNS:web.example`), /must have the one name/],
      ["no name", () => requestOf(null), /must have the one name/],
      [
        "the subject of the root",
        () => requestOf(ownName(), subjectOf(test.manager.require(), "root")),
        /has the subject of a CA of this datacenter/,
      ],
      [
        "the subject of the issuer",
        () => requestOf(ownName(), subjectOf(test.manager.require(), "issuer")),
        /has the subject of a CA of this datacenter/,
      ],
      ["the key of the root", () => requestByOwnKey(config.RootPKIPath), /is one of the CA's own/],
      [
        "the key of the issuer",
        () => requestByOwnKey(config.IntermediatePKIPath),
        /is one of the CA's own/,
      ],
      ["a bad proof of possession", unproved, /does not verify with its own public key/],
    ];
    for (const [what, csr, reason] of CASES)
      it(`is refused with ${what}, before anything is sent to Vault`, async () => {
        const request = await csr();
        const sent = proxy.requests.length;
        const { status, text } = await test.call("PUT", SIGN, request);
        assert.equal(status, 400, text);
        assert.match(text, reason);
        assert.deepEqual(proxy.requests.slice(sent), []);
      });

    it("is sent to Vault once if it is good, with every field decided here, and not for a denied key", async () => {
      const csr = requestOf(ownName(), [...CN, "-addext", "basicConstraints=CA:true,pathlen:7"]);
      const sent = proxy.requests.length;
      const { status, text } = await test.call("PUT", SIGN, csr);
      assert.equal(status, 200, text);
      const [request = "", ...more] = proxy.requests.slice(sent);
      assert.match(request, /^(?:POST|PUT) \/v1\/\S+\/issuer\/\S+\/sign-intermediate$/);
      assert.deepEqual(more, []);
      const { CertPEM } = JSON.parse(text) as { readonly CertPEM: string };
      const certificate = readCertificatePem(CertPEM);
      assert.deepEqual([certificate.isCa, certificate.pathLength], [true, 0]);
      // Below the root is room for an intermediate, also when another root is cross-signed by it.
      assert.equal(test.manager.require().active.certificate.pathLength, null);

      const spki = createPublicKey(
        new X509Certificate(CertPEM).publicKey.export({ type: "spki", format: "pem" }),
      ).export({ type: "spki", format: "der" });
      const KeyID = createHash("sha256").update(spki).digest("hex");
      const denial = await test.call("PUT", "/v1/connect/ca/deny", { KeyID });
      assert.equal(denial.status, 200, denial.text);
      const before = proxy.requests.length;
      assert.deepEqual(await test.call("PUT", SIGN, csr), {
        status: 403,
        text: "Permission denied: this key is on the denylist",
      });
      assert.deepEqual(proxy.requests.slice(before), []);
    });
  });
