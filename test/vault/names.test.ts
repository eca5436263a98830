/**
 * Names and lifetimes of leaves that Vault signs: meshca decides them, the role allows all and the
 * request's own do not count; what Vault answers is compared; a role that was changed is named.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { ipText } from "../../src/core/x509/leaf.ts";
import { opensslCsr, serviceUri, type TestCa } from "../fakes/ca.ts";
import {
  bootstrapIn,
  createVaultCa,
  csrOf,
  readSent,
  requireOpenssl,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

const SECOND = 1000;
/** After which Vault is tried again (providers/vault/circuit-breaker.ts). */
const COOLDOWN_MS = SECOND;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const NAMES = {
  ServiceDNSNames: ["{service}", "z.{service}.x", "*.{service}.x", "{service}.{trust_domain}"],
  ServiceIPRanges: ["10.0.0.0/8", "fd00::/8"],
};

for (const kind of vaultKinds)
  describe(`names and lifetimes of leaves in ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });
    const ask = (ca: TestCa, names: string) =>
      opensslCsr(`URI:${serviceUri(ca.manager, "web")},${names}`).csr;

    for (const mode of ["vault", "local"] as const)
      it(`a leaf has the names of its request that the configuration allows, with LeafSigning ${mode}`, async () => {
        const config = vaultConfig(server, { ...NAMES, LeafSigning: mode });
        const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
        const csr = ask(ca, "DNS:WEB,DNS:z.web.x,DNS:*.web.x,DNS:web,IP:10.2.3.4,IP:fd00::5");
        const { certificatePem } = await ca.manager.sign(csr);
        const { leaf } = readSent(certificatePem);
        assert.deepEqual(leaf.dnsNames.toSorted(), ["*.web.x", "web", "z.web.x"]);
        assert.deepEqual(leaf.ipAddresses.map(ipText), [
          "10.2.3.4",
          "fd00:0000:0000:0000:0000:0000:0000:0005",
        ]);
        assert.equal(leaf.subjectEmpty, true);
        const root = pemOf(ca.manager.require().active.certificate);
        requireOpenssl(certificatePem, root, ca.clock.now());
        const read = new X509Certificate(certificatePem);
        for (const host of ["web", "z.web.x", "other.web.x"])
          assert.notEqual(read.checkHost(host), undefined, host);
        assert.equal(read.checkHost("api"), undefined);
        await assert.rejects(ca.manager.sign(ask(ca, "DNS:web,DNS:api")), {
          code: "profile_violation",
          message:
            /it is not allowed to have the DNS name "api": its DNS names are "web", "z\.web\.x"/,
        });
        // Without names in the request there are none, whatever may be had.
        const plain = readSent((await ca.manager.sign(csrOf(ca))).certificatePem).leaf;
        assert.deepEqual([...plain.dnsNames, ...plain.ipAddresses], []);
        await ca.manager.close();
      });

    it("another list of templates applies to the next leaf, without a rotation or another issuer", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const { active } = ca.manager.require();
      const csr = ask(ca, "DNS:web.example.com");
      await assert.rejects(ca.manager.sign(csr), /the DNS name "web\.example\.com"/);
      await ca.manager.configure(
        toVault({ ...config, ServiceDNSNames: ["{service}.example.com"] }),
      );
      const { leaf } = readSent((await ca.manager.sign(csr)).certificatePem);
      assert.deepEqual(leaf.dnsNames, ["web.example.com"]);
      const { active: after } = ca.manager.require();
      assert.deepEqual(
        [after.id, after.intermediates.map(({ id }) => id)],
        [active.id, active.intermediates.map(({ id }) => id)],
      );
      await ca.manager.close();
    });

    it("a requested lifetime counts from signing, from five minutes up, and renewals keep it", async () => {
      const ca = await createVaultCa({ bootstrap: bootstrapIn(vaultConfig(server)) });
      const csr = csrOf(ca);
      const sign = async (options: Parameters<typeof ca.manager.sign>[1]) => {
        const { leaf } = readSent((await ca.manager.sign(csr, options)).certificatePem);
        return leaf;
      };
      const span = ({ notBefore, notAfter }: { notBefore: Date; notAfter: Date }) =>
        notAfter.getTime() - notBefore.getTime();
      let [from, signings] = [0, 0];
      const requireSpan = (leaf: { notBefore: Date; notAfter: Date }, wanted: number) => {
        const lost = wanted - span(leaf);
        // Vault reads its clock twice for each leaf of a chain of renewals: a second may end in
        // between, and all the time that the signings took.
        const most = ++signings * SECOND + Date.now() - from;
        assert.ok(lost >= 0 && lost <= most, `${lost} ms of ${wanted} ms, at most ${most} ms`);
      };
      await assert.rejects(
        ca.manager.sign(csr, { ttlMs: 5 * MINUTE - SECOND }),
        /TTL 299 s is out of range: it must be at least 5 min and at most 72 h, which is LeafCertTTL/,
      );
      for (const [ttlMs, validity] of [
        [5 * MINUTE, 5 * MINUTE + 30 * SECOND],
        [2 * HOUR, 2 * HOUR + 30 * SECOND],
        [72 * HOUR, 72 * HOUR + 30 * SECOND],
        [null, 72 * HOUR],
      ] as const) {
        [from, signings] = [Date.now(), 0];
        let leaf = await sign({ ttlMs });
        requireSpan(leaf, validity);
        const lived = leaf.notAfter.getTime() - from;
        const wanted = ttlMs ?? 72 * HOUR - 30 * SECOND;
        assert.ok(Math.abs(lived - wanted) < 30 * SECOND + Date.now() - from, `${lived} ms`);
        for (const asked of [null, 72 * HOUR, null]) {
          const { state } = ca.manager.require();
          const renewed = { leaf, state };
          leaf = await sign({ ttlMs: asked, authenticate: async () => renewed });
          // LeafCertTTL bounds the renewal that asks for nothing, too.
          const isLongest = ttlMs === 72 * HOUR && asked === null;
          requireSpan(leaf, isLongest ? 72 * HOUR : validity);
          if (isLongest) break;
        }
      }
      await ca.manager.close();
    });

    const NARROWED: readonly (readonly [Readonly<Record<string, unknown>>, RegExp])[] = [
      [{ allow_any_name: false }, /allow_any_name is false and must be true/],
      [
        { allow_any_name: false, allowed_domains: ["example.com"], allow_subdomains: true },
        /"subject alternate name .* not allowed by this role"; the role leaf-cert was changed: allow_any_name is false and must be true; delete it \(vault delete int-[0-9a-f]+\/roles\/leaf-cert\), and the next leaf writes it again$/,
      ],
      [{ allow_ip_sans: false }, /allow_ip_sans is false and must be true/],
      [{ allow_wildcard_certificates: false }, /allow_wildcard_certificates is false and must be/],
      [
        { allowed_uri_sans: ["spiffe://x/*"] },
        /allowed_uri_sans is \["spiffe:\/\/x\/\*"\] and must/,
      ],
      [{ require_cn: true }, /require_cn is true and must be false/],
      [{ key_type: "rsa", key_bits: 2048 }, /key_type is "rsa" and must be "any"/],
      [
        { organization: ["Acme"] },
        /it has a subject; .*organization is \["Acme"\] and must be \[\]/,
      ],
      [{ server_flag: false }, /extKeyUsage: .*server_flag is false and must be true/],
      [
        { not_before_duration: "3600s" },
        /valid for longer than requested; .*not_before_duration is 3600 and must be 30/,
      ],
      [{ not_after: "2036-01-01T00:00:00Z" }, /not_after is "2036-01-01T00:00:00Z" and must be ""/],
    ];
    it("a role that somebody narrowed is named in the refusal, with what to do, and works once it is deleted", async () => {
      const config = vaultConfig(server, NAMES);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const csr = ask(ca, "DNS:web,DNS:*.web.x,IP:10.2.3.4");
      await ca.manager.sign(csr);
      const role = `${config.IntermediatePKIPath}/roles/leaf-cert`;
      const { data } = await server.must("GET", role);
      for (const [narrowed, says] of NARROWED) {
        await server.must("POST", role, { ...data, ...narrowed });
        await assert.rejects(ca.manager.sign(csr), (error: unknown) => {
          assert.match(String(error), says);
          assert.match(String(error), /the role leaf-cert was changed: .*\/roles\/leaf-cert\)/);
          return true;
        });
        ca.clock.advance(COOLDOWN_MS);
        await server.must("DELETE", role);
        const { leaf } = readSent((await ca.manager.sign(csr)).certificatePem);
        assert.deepEqual(leaf.dnsNames.toSorted(), ["*.web.x", "web"]);
      }
      await ca.manager.close();
    });
  });
