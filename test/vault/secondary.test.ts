/**
 * A secondary datacenter's calls through the provider port: the leaf issuer there is made by its
 * own provider and certified by the primary's, whichever of the two is in Vault.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { providers as builtIn } from "../../providers/index.ts";
import { redact } from "../../src/core/ca/config-fields.ts";
import { ConfigError, ProviderError } from "../../src/core/errors.ts";
import type {
  Compensation,
  CrossSigner,
  Provider,
  ProviderContext,
  ProviderType,
  RequestedIntermediate,
} from "../../src/core/ports/provider.ts";
import type { ProviderRecord } from "../../src/core/state.ts";
import {
  createIntermediate,
  createRoot,
  generateCaKey,
  signingUri,
} from "../../src/core/x509/authority.ts";
import { type Certificate, pemOf, readCertificate } from "../../src/core/x509/certificate.ts";
import { readCsr } from "../../src/core/x509/csr.ts";
import { createSerials, leafKeyUsage } from "../../src/core/x509/leaf.ts";
import { makeCaRequest } from "../../src/core/x509/request.ts";
import { createTestCa, opensslCsr, serviceUri, type TestCa } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import {
  bootstrapIn,
  type Cut,
  clockNow,
  createVaultCa,
  cutting,
  inventory,
  requireOpenssl,
  vaultConfig,
} from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

const HOUR = 3_600_000;
type Config = Readonly<Record<string, unknown>>;

/** What a secondary datacenter has: its provider, and the CA that is its primary. */
interface Secondary {
  readonly ca: TestCa;
  readonly type: ProviderType;
  readonly config: Config;
  readonly context: ProviderContext;
}

const compensations: Compensation[] = [];

function requestFrom(
  { ca, type, config, context }: Secondary,
  previous: ProviderRecord | null = null,
  now = ca.clock.now(),
): Promise<RequestedIntermediate> {
  compensations.length = 0;
  const parse = (raw: ProviderRecord["config"]) => type.parse(raw, "secondary");
  const before =
    previous === null ? null : { config: parse(previous.config), state: previous.state };
  return type.requestIntermediate(
    parse(config),
    { previous: before, now, onRollback: (one) => void compensations.push(one) },
    context,
  );
}

async function rollBack(): Promise<void> {
  for (const compensate of compensations.toReversed()) await compensate();
}

function crossSignerOf(ca: TestCa): CrossSigner {
  const crossSigner = ca.manager.require().provider?.crossSigner;
  assert.ok(crossSigner);
  return crossSigner;
}

/** Both calls with the primary's between them. @returns the record that would be committed */
async function follow(
  secondary: Secondary,
  previous: ProviderRecord | null = null,
  now?: Date,
): Promise<ProviderRecord> {
  const { ca, type, config } = secondary;
  const { active } = ca.manager.require();
  const requested = await requestFrom(secondary, previous, now);
  const answered = await crossSignerOf(ca).signIntermediate(requested.csr, ca.clock.now());
  // Consul's primaries send the root along.
  const { state } = await requested.accept(
    [...answered, active.certificate],
    active.certificate,
    now ?? ca.clock.now(),
  );
  return { provider: type.name, config: redact(config, type.secretFields), state };
}

/** A leaf with its intermediates, as PEM. */
async function signed(provider: Provider, ca: TestCa): Promise<string> {
  const { csr } = opensslCsr(`URI:${serviceUri(ca.manager, "web").replace("/dc1/", "/dc2/")}`);
  const { key, uri } = readCsr(csr);
  const now = ca.clock.now().getTime();
  const draft = provider.template.encode({
    uri: uri ?? assert.fail(),
    dnsNames: [],
    ipAddresses: [],
    serial: createSerials(systemRandom)(),
    spki: key.spki,
    keyUsage: leafKeyUsage(key.type),
    notBefore: new Date(
      Math.max(Math.floor(now / 1000) * 1000 - 60_000, provider.issuer.notBefore.getTime()),
    ),
    notAfter: new Date(Math.floor(now / 1000) * 1000 + 72 * HOUR),
  });
  const leaf = readCertificate((await provider.signLeaf(draft, csr)).der);
  return [leaf, ...provider.issuerChain].map(pemOf).join("");
}

/** Leaves are signed under the primary's root, and nothing else is. */
async function requireSecondary(
  { ca, type, context }: Secondary,
  record: ProviderRecord,
): Promise<Provider> {
  const root = ca.manager.require().active.certificate;
  const provider = await type.open(
    type.parse(record.config, "secondary"),
    record.state,
    root,
    context,
  );
  requireOpenssl(await signed(provider, ca), pemOf(root), ca.clock.now());
  const { issuerChain } = provider;
  assert.ok(issuerChain.length > 0 && issuerChain.every(({ id }) => id !== root.id));
  assert.equal(provider.crossSigner, null);
  return provider;
}

function secondaryOf(ca: TestCa, type: ProviderType | undefined, config: Config): Secondary {
  assert.ok(type !== undefined);
  const { clusterId, trustDomain } = ca.manager.require().state;
  const context = {
    ...{ clusterId, trustDomain, datacenter: "dc2" },
    sealer: ca.sealer,
    random: systemRandom,
  };
  return { ca, type, config, context };
}

describe("a secondary datacenter with the built-in provider", () => {
  const start = async () => {
    const ca = await createTestCa({ clock: clockNow() });
    return secondaryOf(ca, builtIn.get("consul"), {});
  };

  it("signs leaves by a key that the primary certified, for each kind of key", async () => {
    const { ca, type, context } = await start();
    for (const [PrivateKeyType, PrivateKeyBits] of [
      ["ec", 256],
      ["ec", 521],
      ["rsa", 2048],
    ]) {
      const secondary = { ca, type, context, config: { PrivateKeyType, PrivateKeyBits } };
      const record = await follow(secondary);
      const { issuer } = await requireSecondary(secondary, record);
      assert.equal(issuer.key.type, PrivateKeyType);
      assert.ok(!JSON.stringify(record).includes("PRIVATE KEY"));
    }
  });

  it("refuses a certificate under which its leaves would not verify", async () => {
    const secondary = await start();
    const { ca, context } = secondary;
    const { active } = ca.manager.require();
    const provider = crossSignerOf(ca);
    const now = ca.clock.now();
    const { csr, accept } = await requestFrom(secondary);
    const [good] = (await provider.signIntermediate(csr, now)) as [Certificate];
    const other = await requestFrom(secondary);
    const rootKey = await generateCaKey({ type: "ec", bits: 256 });
    const options = {
      clusterId: context.clusterId,
      trustDomain: context.trustDomain,
      provider: "consul",
      ttlMs: 1000 * HOUR,
      now,
      random: systemRandom,
    };
    const stranger = await createRoot(rootKey, options);
    const byStranger = await createIntermediate(
      readCsr(csr).key,
      { certificate: stranger, privateKey: rootKey.privateKey },
      { ...options, ttlMs: 100 * HOUR },
    );
    const cases: [readonly Certificate[], Date, RegExp][] = [
      [[], now, /the answer has no certificate/],
      [await provider.signIntermediate(other.csr, now), now, /the one of the request/],
      [[active.certificate], now, /pathLen|the one of the request/],
      [[byStranger, stranger], now, /no path of valid certificates leads from it to the root/],
      [
        [good],
        new Date(good.notAfter.getTime() + 1000),
        /no path of valid certificates leads from it to the root/,
      ],
    ];
    for (const [answered, at, says] of cases)
      await assert.rejects(accept(answered, active.certificate, at), (error: unknown) => {
        assert.ok(error instanceof ProviderError);
        assert.equal(error.code, "provider_contract");
        assert.match(error.message, says);
        return true;
      });
    await accept([good], active.certificate, now);
  });

  it("signIntermediate() of the primary certifies no other name, no other domain and no key that is not proved", async () => {
    const { ca, context } = await start();
    const provider = crossSignerOf(ca);
    const key = await generateCaKey({ type: "ec", bits: 256 });
    const now = ca.clock.now();
    const refuses = async (csr: string, says: RegExp) =>
      assert.rejects(provider.signIntermediate(csr, now), says);
    await refuses(
      await makeCaRequest(key, "sec.example", "spiffe://elsewhere.consul"),
      /must have the one name/,
    );
    await refuses(
      opensslCsr(`URI:${signingUri(context)},DNS:web.example`).csr,
      /must have the one name/,
    );
    const another = await generateCaKey({ type: "ec", bits: 256 });
    const unproved = { info: key.info, privateKey: another.privateKey };
    await refuses(
      await makeCaRequest(unproved, "sec.example", signingUri(context)),
      /does not verify/,
    );
  });
});

for (const kind of vaultKinds)
  describe(`secondary datacenters with ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    /** A secondary's token has no right at any root's mount. */
    const configFor = async (more: Config = {}): Promise<Config> => {
      const { RootPKIPath, ...config } = vaultConfig(server, more);
      assert.equal(typeof RootPKIPath, "string");
      const all = '{ capabilities = ["create", "read", "update", "delete", "list"] }';
      const int = String(config.IntermediatePKIPath);
      return {
        ...config,
        Token: await server.tokenWith(`path "${int}/*" ${all}\npath "sys/mounts/${int}" ${all}`),
      };
    };
    const primaries = {
      "the built-in provider": () => createVaultCa(),
      Vault: () => createVaultCa({ bootstrap: bootstrapIn(vaultConfig(server)) }),
    };

    for (const [name, primary] of Object.entries(primaries))
      for (const mode of ["vault", "local"])
        it(`LeafSigning ${mode} under a primary in ${name}, renewed, and replaced issuers are deleted`, async () => {
          const ca = await primary();
          const config = await configFor({ LeafSigning: mode });
          const secondary = secondaryOf(ca, ca.providers.get("vault"), config);
          const first = await follow(secondary);
          const opened = await requireSecondary(secondary, first);
          assert.deepEqual(await opened.external?.inspect(), {
            issuerLost: false,
            rootReplaced: false,
          });
          assert.equal(opened.remote, mode === "vault");
          await opened.close();
          assert.ok(!JSON.stringify(first).includes(String(config.Token)));

          const second = await follow(
            { ...secondary, config: { ...config, Token: "hidden" } },
            first,
          );
          const renewed = await requireSecondary(secondary, second);
          assert.notEqual(renewed.issuer.id, opened.issuer.id);
          await renewed.close();
          const list = `${config.IntermediatePKIPath}/issuers?list=true`;
          const count = async () => (await server.call("GET", list)).body?.data?.keys?.length ?? 0;
          assert.equal(await count(), mode === "vault" ? 2 : 0);
          const { garbage } = secondary.type;
          assert.ok(garbage);
          const due = garbage.dueAt(second.state);
          assert.equal(due === null, mode === "local");
          if (due !== null) {
            const state = await garbage.collect(
              secondary.type.parse(second.config, "secondary"),
              { state: second.state, others: [], requireLease: () => undefined, now: due },
              secondary.context,
            );
            assert.equal(await count(), 1);
            assert.equal(garbage.dueAt(state), null);
          }
          await ca.manager.close();
        });

    it("the built-in provider under a primary in Vault", async () => {
      const ca = await primaries.Vault();
      const secondary = secondaryOf(ca, ca.providers.get("consul"), {});
      await requireSecondary(secondary, await follow(secondary));
      await ca.manager.close();
    });

    it("intermediates between the primary and an external root are sent with each leaf", async () => {
      const [above, config] = [vaultConfig(server), vaultConfig(server)];
      for (const path of [above.RootPKIPath, config.RootPKIPath])
        await server.must("POST", `sys/mounts/${path}`, {
          type: "pki",
          config: { max_lease_ttl: "87600h" },
        });
      await server.must("POST", `${above.RootPKIPath}/root/generate/internal`, {
        common_name: "company root",
        ttl: "87600h",
      });
      const { data } = await server.must(
        "POST",
        `${config.RootPKIPath}/intermediate/generate/internal`,
        { common_name: "mesh issuer" },
      );
      const answer = await server.must("POST", `${above.RootPKIPath}/root/sign-intermediate`, {
        csr: data.csr,
        use_csr_values: true,
        format: "pem_bundle",
        ttl: "60000h",
      });
      await server.must("POST", `${config.RootPKIPath}/intermediate/set-signed`, {
        certificate: answer.data.certificate,
      });
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const secondary = secondaryOf(ca, ca.providers.get("vault"), await configFor());
      const opened = await requireSecondary(secondary, await follow(secondary));
      assert.equal(opened.issuerChain.length, 2);
      await opened.close();
      await ca.manager.close();
    });

    it("a token without the rights is refused by path and capability, and nothing is created", async () => {
      const ca = await createVaultCa();
      const before = await inventory(server);
      const config: Config = {
        ...(await configFor()),
        Token: await server.tokenWith('path "nothing" { capabilities = ["read"] }'),
      };
      const secondary = secondaryOf(ca, ca.providers.get("vault"), config);
      await assert.rejects(requestFrom(secondary), (error: unknown) => {
        assert.ok(error instanceof ConfigError);
        assert.ok(
          error.violations.some(
            ({ field }) => field === `${config.IntermediatePKIPath}/intermediate/set-signed`,
          ),
        );
        assert.ok(error.violations.every(({ field }) => !field.includes("sign-intermediate")));
        return true;
      });
      assert.deepEqual(compensations, []);
      assert.deepEqual(await inventory(server), before);
      await ca.manager.close();
    });

    for (const how of ["refuse", "lose"] as const satisfies readonly Cut[])
      it(`cut (${how}) at every call leaves nothing`, { timeout: 240_000 }, async () => {
        const cuts = cutting();
        const ca = await createVaultCa({ connect: cuts.connect });
        const empty = await inventory(server);
        const hits: string[] = [];
        for (let n = 1; ; n++) {
          const secondary = secondaryOf(ca, ca.providers.get("vault"), await configFor());
          cuts.arm(n, how);
          const failed = await follow(secondary).then(
            () => false,
            () => true,
          );
          const { hit } = cuts;
          cuts.disarm();
          if (hit === null) {
            assert.equal(failed, false);
            break;
          }
          hits.push(hit);
          await rollBack();
          assert.deepEqual(await inventory(server), empty, `cut at ${hit} leaves something`);
        }
        assert.ok(
          hits.includes("generateIntermediate") &&
            hits.includes("setSigned") &&
            hits.includes("writeRole"),
          hits.join(),
        );
        await ca.manager.close();
      });
  });
