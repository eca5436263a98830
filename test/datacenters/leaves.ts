/**
 * Leaves of several datacenters in one process, verified by the roots of each other.
 * @module
 */
import assert from "node:assert/strict";
import { readPem } from "../../src/core/pem.ts";
import { type Certificate, readCertificate } from "../../src/core/x509/certificate.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import { opensslCsr, serviceUri, type TestCa } from "../fakes/ca.ts";

/** A CA and the name of its datacenter. */
export interface NamedCa extends Pick<TestCa, "manager" | "clock"> {
  readonly name: string;
}

/** A leaf that a datacenter signs now, with its chain. */
export async function leafOf({ manager, name }: NamedCa): Promise<readonly Certificate[]> {
  const uri = serviceUri(manager, "web").replace("/dc/dc1/", `/dc/${name}/`);
  const { certificatePem } = await manager.sign(opensslCsr(`URI:${uri}`).csr);
  return readPem(certificatePem).map(({ bytes }) => readCertificate(bytes));
}

/** Requires that leaves of each verify under each root that each publishes, by itself. */
export async function requireMutual(cas: readonly NamedCa[]): Promise<void> {
  for (const ca of cas) {
    const [leaf, ...chain] = await leafOf(ca);
    assert.ok(leaf !== undefined);
    assert.ok(chain.every(({ issuer, subject }) => String(issuer) !== String(subject)));
    assert.equal(new Set(chain.map(({ id }) => id)).size, chain.length, "a duplicate in the chain");
    for (const publisher of cas)
      for (const { certificate, abandoned } of publisher.manager.require().state.roots) {
        if (abandoned || certificate.notAfter <= ca.clock.now()) continue;
        const path = await findPath(leaf, chain, certificate, ca.clock.now());
        assert.ok(path !== null, `a leaf of ${ca.name} does not verify under ${certificate.id}`);
      }
  }
}
