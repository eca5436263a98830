/**
 * A CA one of whose roots was abandoned although an older published root had certified it, and
 * a thief of the abandoned root's key.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import type { CaState } from "../../../src/core/state.ts";
import { pemOf } from "../../../src/core/x509/certificate.ts";
import { configuration, createTestCa, inFolder, openssl, type TestCa } from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { BOOTSTRAP, HOUR, type SuppliedRoot, suppliedRoot, TRUST_DOMAIN } from "./harness.ts";

export interface Abandoned {
  readonly ca: TestCa;
  /** The state in which the abandoned root was active. */
  readonly backup: CaState;
  /** The abandoned root with its key. */
  readonly stolen: SuppliedRoot;
  /** PEM of the abandoned root as the older, published root certified it. */
  readonly crossed: string;
  /**
   * A leaf for a service with its key, signed by the stolen key; the cross-signed certificate
   * follows it.
   */
  forge(service: string): { readonly cert: string; readonly key: string };
}

const opensslDate = (date: Date) => `${date.toISOString().replace(/\D/g, "").slice(0, 14)}Z`;

/** @param now the time of the CA's clock. */
export async function abandonedRoot(now: Date): Promise<Abandoned> {
  const room = { ...DEFAULT_POLICY, maxChainBytes: 3584 + 1024 };
  const ca = await createTestCa({
    bootstrap: BOOTSTRAP,
    clock: createFakeClock(now),
    policy: room,
  });
  const { manager } = ca;
  // It expires first, so that it is at the end of the chain and is the root that a forced rotation
  // abandons.
  const [from, to] = [new Date(now.getTime() - HOUR), new Date(now.getTime() + 48 * HOUR)].map(
    opensslDate,
  ) as [string, string];
  const stolen = suppliedRoot({ from, to });
  await manager.configure(configuration({ PrivateKey: stolen.key, RootCert: stolen.cert }));
  const { active, state: backup } = manager.require();
  const crossed = pemOf(active.intermediates[0] ?? assert.fail());
  await manager.configure(configuration({}, { forceWithoutCrossSigning: true }));
  const { roots } = manager.require().state;
  assert.deepEqual(
    roots.filter(({ abandoned }) => abandoned).map(({ id }) => id),
    [active.id],
  );
  assert.equal(roots.length, 3);
  // openssl dates a leaf by the machine's clock, to the second.
  ca.clock.advance(60_000);
  return {
    ca,
    backup,
    stolen,
    crossed,
    forge: (service) => {
      const { cert, key } = forgeLeaf(stolen, service);
      return { cert: cert + crossed, key };
    },
  };
}

/** Signs a leaf for a service of the cluster with a stolen key, as its thief does. */
export function forgeLeaf(
  stolen: SuppliedRoot,
  service: string,
): { readonly cert: string; readonly key: string } {
  return inFolder((folder) => {
    const file = (name: string, text = "") => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const [key, csr, cert] = [file("key.pem"), file("csr.pem"), file("cert.pem")];
    openssl([
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      key,
      "-out",
      csr,
      "-subj",
      "/",
    ]);
    const extensions = [
      "basicConstraints=critical,CA:FALSE",
      "keyUsage=critical,digitalSignature",
      "extendedKeyUsage=clientAuth,serverAuth",
      "authorityKeyIdentifier=keyid",
      `subjectAltName=critical,URI:spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/${service}`,
    ];
    const by = ["-CA", file("ca.pem", stolen.cert), "-CAkey", file("cakey.pem", stolen.key)];
    openssl([
      "x509",
      "-req",
      "-in",
      csr,
      ...by,
      "-days",
      "1",
      "-out",
      cert,
      "-extfile",
      file("ext.cnf", extensions.join("\n")),
    ]);
    return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
  });
}
