/**
 * What the tests of the CA share: roots made by openssl, providers with less ability, leaves
 * checked under every root.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { providers } from "../../../providers/index.ts";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import type { BootstrapConfig } from "../../../src/core/ca/plan-root.ts";
import { CaError } from "../../../src/core/errors.ts";
import { readPem } from "../../../src/core/pem.ts";
import type { ProviderType, ProviderTypes } from "../../../src/core/ports/provider.ts";
import type { CaState, RootEntry } from "../../../src/core/state.ts";
import { activeRoot } from "../../../src/core/state.ts";
import { type Certificate, readCertificate } from "../../../src/core/x509/certificate.ts";
import { findPath } from "../../../src/core/x509/chain.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import {
  createTestCa,
  DEFAULT_BOOTSTRAP,
  type FlatCaOptions,
  inFolder,
  openssl,
  opensslCsr,
  type TestCa,
} from "../../fakes/ca.ts";

export const HOUR = 3_600_000;
export const CLUSTER = "11111111-2222-3333-4444-555555555555";
export const TRUST_DOMAIN = `${CLUSTER}.consul`;
/** The default configuration for a cluster whose id is known beforehand. */
export const BOOTSTRAP: BootstrapConfig = { ...DEFAULT_BOOTSTRAP, clusterId: CLUSTER };

/** A request for a service of that cluster. */
export function webCsr(): string {
  return opensslCsr(`URI:spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web`).csr;
}

export interface SuppliedRoot {
  readonly cert: string;
  readonly key: string;
}

export interface SuppliedRootOptions {
  readonly name?: string;
  /** openssl's form: 20260101000000Z. */
  readonly from?: string;
  readonly to?: string;
  /** Lines of an extension section; a good root's by default. */
  readonly extensions?: readonly string[];
  /** PEM of the key; a new one on P-256 by default. */
  readonly key?: string;
  /** Another root that signs it. */
  readonly by?: SuppliedRoot;
}

export const GOOD_EXTENSIONS: readonly string[] = [
  "basicConstraints=critical,CA:TRUE",
  "keyUsage=critical,keyCertSign,cRLSign",
  "subjectKeyIdentifier=hash",
  `subjectAltName=URI:spiffe://${TRUST_DOMAIN}`,
];

let madeRoots = 0;

/** Makes a root with openssl, as an operator would. */
export function suppliedRoot(options: SuppliedRootOptions = {}): SuppliedRoot {
  const { from = "20260101000000Z", to = "20360101000000Z", by } = options;
  const asked = options.extensions ?? GOOD_EXTENSIONS;
  // openssl adds a key identifier of its own accord.
  const extensions = asked.some((line) => line.startsWith("subjectKey"))
    ? asked
    : [...asked, "subjectKeyIdentifier=none"];
  const name = options.name ?? `root ${++madeRoots}`;
  return inFolder((folder) => {
    const file = (base: string, text: string) => {
      writeFileSync(join(folder, base), text);
      return join(folder, base);
    };
    const key = options.key ?? opensslKey();
    const keyFile = file("key.pem", key);
    const config = file(
      "ca.cnf",
      `[ca]\ndefault_ca=d\n[d]\ndatabase=${file("index.txt", "")}\nnew_certs_dir=${folder}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nunique_subject=no\nx509_extensions=ext\n[p]\ncommonName=supplied\n[ext]\n${extensions.join("\n")}\n`,
    );
    const [request, cert] = [join(folder, "request.pem"), join(folder, "cert.pem")];
    openssl(["req", "-new", "-key", keyFile, "-subj", `/CN=${name}`, "-out", request]);
    const signer =
      by === undefined
        ? ["-selfsign", "-keyfile", keyFile]
        : ["-cert", file("by.pem", by.cert), "-keyfile", file("bykey.pem", by.key)];
    openssl([
      "ca",
      "-batch",
      ...signer,
      "-config",
      config,
      "-in",
      request,
      "-out",
      cert,
      "-notext",
      "-startdate",
      from,
      "-enddate",
      to,
    ]);
    return { cert: readFileSync(cert, "utf8"), key };
  });
}

/** A private key in PKCS#8. */
export function opensslKey(
  kind: readonly string[] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
): string {
  return openssl(["genpkey", ...kind]);
}

/** The built-in provider, changed. */
export function providersWith(change: (type: ProviderType) => ProviderType): ProviderTypes {
  return new Map([...providers].map(([name, type]) => [name, change(type)]));
}

/** The built-in provider without the ability to certify another root. */
export const withoutCrossSigning: ProviderTypes = providersWith((type) => ({
  ...type,
  open: async (...opening) => ({ ...(await type.open(...opening)), crossSigner: null }),
}));

/** A leaf and its chain, parsed. */
export function readChain(pem: string): { leaf: Certificate; intermediates: Certificate[] } {
  const [leaf, ...intermediates] = readPem(pem).map(({ bytes }) => readCertificate(bytes));
  if (leaf === undefined) throw new TypeError("There is no certificate");
  return { leaf, intermediates };
}

/** The published roots under each of which, by itself, a leaf signed now must verify. */
export function rootsInUse(state: CaState, now: Date): RootEntry[] {
  return state.roots.filter((root) => !root.abandoned && root.certificate.notAfter > now);
}

/** Signs a leaf and verifies it under each published root by itself. */
export async function requireSigning(
  manager: CertificateAuthority,
  csr: string,
  now: Date,
): Promise<Certificate> {
  const { leaf, intermediates } = readChain((await manager.sign(csr)).certificatePem);
  const { state } = manager.require();
  const targets = rootsInUse(state, now);
  assert.ok(targets.some(({ id }) => id === activeRoot(state).id));
  for (const { id, certificate } of targets)
    assert.ok(
      (await findPath(leaf, intermediates, certificate, now)) !== null,
      `leaf does not verify under root ${id}`,
    );
  return leaf;
}

/** What a user can see of a state, to compare two. */
export function visible(state: CaState) {
  const { config, clusterId } = state;
  return {
    clusterId,
    config,
    roots: state.roots.map(({ certificate, intermediates, ...root }) => ({
      ...root,
      certificate: certificate.id,
      intermediates: intermediates.map(({ id }) => id),
    })),
    keys: new Set(Object.keys(state.provider.retired)),
  };
}

/** Another replica over the same backend. */
export async function replica(
  of: TestCa,
  holder: string,
  overrides: Partial<Omit<FlatCaOptions, "clock">> = {},
): Promise<CertificateAuthority> {
  const { backend, clock, sealer } = of;
  const ports = backend.open(createCodec(overrides.sealer ?? sealer), holder);
  const { manager } = await createTestCa({
    started: false,
    backend,
    clock,
    sealer,
    bootstrap: BOOTSTRAP,
    self: { id: holder, address: holder },
    ...ports,
    ...overrides,
  });
  return manager;
}

/**
 * Expects `work` to be refused and nothing to have changed: the stored document, and that leaves
 * are signed.
 */
export async function requireRefused(
  ca: TestCa,
  csr: string,
  work: (manager: CertificateAuthority) => Promise<unknown>,
  check: (error: CaError) => void,
): Promise<void> {
  const before = ca.backend.document;
  await assert.rejects(work(ca.manager), (error: unknown) => {
    assert.ok(error instanceof CaError, String(error));
    check(error);
    return true;
  });
  assert.equal(ca.backend.document, before, "a refused change was stored");
  await requireSigning(ca.manager, csr, ca.clock.now());
  const other = await replica(ca, "other");
  await other.refresh();
  await requireSigning(other, csr, ca.clock.now());
}

/** A provider type whose `prepare` waits at a gate once it is closed. */
export function gatedProviders(): {
  providers: ProviderTypes;
  close(): { reached: Promise<void>; open(): void };
} {
  let gate: { reached: PromiseWithResolvers<void>; opened: PromiseWithResolvers<void> } | null =
    null;
  return {
    providers: providersWith((type) => ({
      ...type,
      async prepare(...request) {
        const waiting = gate;
        gate = null;
        waiting?.reached.resolve();
        await waiting?.opened.promise;
        return type.prepare(...request);
      },
    })),
    close() {
      const made = {
        reached: Promise.withResolvers<void>(),
        opened: Promise.withResolvers<void>(),
      };
      gate = made;
      return { reached: made.reached.promise, open: made.opened.resolve };
    },
  };
}
