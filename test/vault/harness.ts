/**
 * A CA whose root is in a real Vault: the real CA, sealer, provider and client over the memory
 * store.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createProviders } from "../../providers/index.ts";
import type { VaultPlatform } from "../../providers/vault/client.ts";
import { type Connect, createConnect } from "../../providers/vault/context.ts";
import { EgressAllowlist } from "../../providers/vault/egress-allowlist.ts";
import { VaultError } from "../../providers/vault/errors.ts";
import type { PkiApi } from "../../providers/vault/pki-api.ts";
import type { ConfigurationRequest } from "../../src/core/ca/plan-change.ts";
import type { RotationRequest } from "../../src/core/ca/plan-root.ts";
import type { Clock } from "../../src/core/ports/clock.ts";
import type { ProviderTypes } from "../../src/core/ports/provider.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { systemClock } from "../../src/entry/platform.ts";
import { readChain, requireSigning } from "../core/ca/harness.ts";
import {
  createTestCa,
  DEFAULT_BOOTSTRAP,
  type FlatCaOptions,
  inFolder,
  openssl,
  opensslCsr,
  serviceUri,
  silentLog,
  type TestCa,
} from "../fakes/ca.ts";
import { createFakeClock, type FakeClock, systemRandom } from "../fakes/clock.ts";
import type { VaultServer } from "./server.ts";

/**
 * Clients with a real platform but the log, of a server without files that may connect to loopback.
 */
export function connectWith(more: Partial<VaultPlatform> = {}): Connect {
  return createConnect({
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    readFile: () => {
      throw new Error("There are no files");
    },
    listFolder: () => [],
    resolve: async () => [],
    allow: new EgressAllowlist({ hosts: [], ranges: [], loopback: true }),
    ...more,
  });
}

export const connectReal = connectWith();

export interface VaultCaOptions extends Partial<Omit<FlatCaOptions, "clock">> {
  readonly connect?: Connect;
  readonly clock?: FakeClock;
  readonly started?: boolean;
}

/** The clock of the CA, set to the time that Vault has. */
export const clockNow = (): FakeClock => createFakeClock(new Date());

/**
 * Starts a CA with the built-in provider, to which Vault is known; or with `bootstrap` in Vault.
 */
export async function createVaultCa({
  connect = connectReal,
  clock = clockNow(),
  ...rest
}: VaultCaOptions = {}): Promise<TestCa & { readonly providers: ProviderTypes }> {
  // A provider has real time: what it waits for happens outside.
  const providers = createProviders({ connect, clock: clock as Clock });
  return { ...(await createTestCa({ providers, clock, ...rest })), providers };
}

/** Fresh mounts of a server, also of one that earlier tests or runs have used. */
export function vaultConfig(
  server: VaultServer,
  more: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  const n = crypto.randomUUID().slice(0, 8);
  return {
    Address: server.address,
    Token: server.token,
    RootPKIPath: `root-${n}`,
    IntermediatePKIPath: `int-${n}`,
    LeafCertTTL: "72h",
    ...more,
  };
}

export function toVault(
  config: Readonly<Record<string, unknown>>,
  more: Partial<ConfigurationRequest> = {},
): ConfigurationRequest {
  return {
    provider: "vault",
    config,
    state: null,
    forceWithoutCrossSigning: false,
    modifyIndex: null,
    ...more,
  };
}

export function bootstrapIn(config: Readonly<Record<string, unknown>>) {
  return { ...DEFAULT_BOOTSTRAP, provider: "vault", config };
}

/** Rotates, whatever change was made since. */
export const NOW: RotationRequest = { forceWithoutCrossSigning: false, modifyIndex: null };

/**
 * All of Vault that is ours to leave as it was: mounts, and in each PKI engine issuers, keys and
 * roles.
 */
export async function inventory(server: VaultServer): Promise<Record<string, unknown>> {
  const mounts = (await server.must("GET", "sys/mounts")).data as Record<string, { type: string }>;
  const found: Record<string, unknown> = {};
  for (const [path, { type }] of Object.entries(mounts)) {
    if (type !== "pki") continue;
    const list = async (what: string) =>
      ((await server.call("GET", `${path}${what}?list=true`)).body?.data?.keys ?? []).length;
    found[path] = {
      issuers: await list("issuers"),
      keys: await list("keys"),
      roles: await list("roles"),
    };
  }
  return found;
}

/** Reads a chain, which must hold no self-signed certificate. */
export function readSent(pem: string) {
  const chain = readChain(pem);
  for (const { issuer, subject } of [chain.leaf, ...chain.intermediates])
    assert.notDeepEqual(issuer, subject, "a self-signed certificate goes with a leaf");
  return chain;
}

/** Has openssl verify a leaf with its intermediates under one root. @throws if it does not */
export function requireOpenssl(pem: string, root: string, at: Date): void {
  inFolder((folder) => {
    const file = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const chain = file("chain.pem", pem);
    const seconds = String(Math.floor(at.getTime() / 1000));
    const said = openssl([
      "verify",
      "-x509_strict",
      "-attime",
      seconds,
      "-CAfile",
      file("root.pem", root),
      "-untrusted",
      chain,
      chain,
    ]);
    assert.match(said, /: OK/);
  });
}

/** A request for a service of a CA. */
export const csrOf = ({ manager }: TestCa, service = "web"): string =>
  opensslCsr(`URI:${serviceUri(manager, service)}`).csr;

/** Has leaves signed, and verified under each published root, by openssl too. */
export async function requireAll(ca: TestCa): Promise<void> {
  await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
  const { certificatePem } = await ca.manager.sign(csrOf(ca, "api"));
  readSent(certificatePem);
  for (const root of ca.manager.require().state.roots)
    if (!root.abandoned) requireOpenssl(certificatePem, pemOf(root.certificate), ca.clock.now());
}

/** Runs due maintenance until none is left. */
export async function settle(ca: TestCa): Promise<void> {
  for (let i = 0; i < 20; i++) {
    ca.clock.advance(1000);
    await ca.manager.tick().catch(() => undefined);
  }
}

/**
 * `refuse`: no effect, an error. `lose`: the effect, and an error. `away`: that call and all after
 * it are refused.
 */
export type Cut = "refuse" | "lose" | "away";

export interface Cutting {
  readonly connect: Connect;
  /** Counts calls from now on, and cuts the n-th. */
  arm(n: number, how: Cut): void;
  disarm(): void;
  /** The call that was cut, or null. */
  readonly hit: string | null;
  /** Names of the calls since it was armed. */
  readonly calls: readonly string[];
}

/** Clients that are real, but for one call that is cut. */
export function cutting(inner: Connect = connectReal): Cutting {
  let left = 0;
  let mode: Cut = "refuse";
  let hit: string | null = null;
  let calls: string[] = [];
  const cut = (name: string, call: () => unknown): unknown => {
    calls.push(name);
    left--;
    if (left !== 0 && !(mode === "away" && hit !== null)) return call();
    hit ??= name;
    const fail = () =>
      Promise.reject(
        new VaultError(mode === "lose" ? "timeout" : "unreachable", `Vault: ${name} was cut`),
      );
    return mode === "lose" ? Promise.resolve(call()).then(fail) : fail();
  };
  return {
    connect(connection) {
      const client = inner(connection);
      return new Proxy(client, {
        get(target, name: keyof PkiApi) {
          const value = target[name];
          if (typeof value !== "function") return value;
          if (name === "close") return value.bind(target);
          return (...args: unknown[]) =>
            cut(name, () => (value as (...args: unknown[]) => unknown).apply(target, args));
        },
      });
    },
    arm(n, how) {
      [left, mode, hit, calls] = [n, how, null, []];
    },
    disarm() {
      [left, mode] = [0, "refuse"];
    },
    get hit() {
      return hit;
    },
    get calls() {
      return calls;
    },
  };
}

/** Has an operator make another root in a mount, and its default. */
export async function generateAnother(
  server: VaultServer,
  { RootPKIPath }: Record<string, unknown>,
): Promise<void> {
  const { data } = await server.must("POST", `${RootPKIPath}/root/generate/internal`, {
    common_name: "theirs",
    ttl: "80000h",
  });
  await server.must("POST", `${RootPKIPath}/config/issuers`, { default: data.issuer_id });
}

/**
 * Has an operator import an intermediate of an external root, with its chain, where the root of a
 * configuration is to be.
 * @returns that root as PEM
 */
export async function importBelowExternal(
  server: VaultServer,
  { RootPKIPath }: Record<string, unknown>,
): Promise<string> {
  const above = `${RootPKIPath}-above`;
  for (const path of [above, RootPKIPath])
    await server.must("POST", `sys/mounts/${path}`, {
      type: "pki",
      config: { max_lease_ttl: "87600h" },
    });
  const top = await server.must("POST", `${above}/root/generate/internal`, {
    common_name: "company root",
    ttl: "87600h",
  });
  const { data } = await server.must("POST", `${RootPKIPath}/intermediate/generate/internal`, {
    common_name: "mesh issuer",
  });
  const certify = { csr: data.csr, use_csr_values: true, format: "pem_bundle", ttl: "60000h" };
  const signed = await server.must("POST", `${above}/root/sign-intermediate`, certify);
  await server.must("POST", `${RootPKIPath}/intermediate/set-signed`, {
    certificate: signed.data.certificate,
  });
  return top.data.certificate as string;
}
