/**
 * Whether leaves of several datacenters verify in each of them, by other implementations of X.509.
 * @module
 */
import assert from "node:assert/strict";
import { readPem } from "../../src/core/pem.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { opensslCsr, serviceUri, type TestCa } from "../fakes/ca.ts";
import type { ServerProcess } from "../fixtures/process.ts";
import type { Verifier } from "../verifiers/x509/verifiers.ts";
import { call } from "./servers.ts";

export interface Member {
  readonly name: string;
  /** A leaf that it signs now, with its chain, PEM. */
  leaf(): Promise<string>;
  /** The roots that it publishes, PEM. */
  roots(): Promise<readonly string[]>;
}

/** A CA of this process. */
export function memberOf({ manager }: Pick<TestCa, "manager">, name: string): Member {
  return {
    name,
    async leaf() {
      const uri = serviceUri(manager, "web").replace("/dc/dc1/", `/dc/${name}/`);
      return (await manager.sign(opensslCsr(`URI:${uri}`).csr)).certificatePem;
    },
    async roots() {
      const { roots } = manager.require().state;
      return roots.filter(({ abandoned }) => !abandoned).map((root) => pemOf(root.certificate));
    },
  };
}

/** The roots of a server as it lists them. */
export interface Roots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly {
    readonly ID: string;
    readonly RootCert: string;
    readonly SigningKeyID: string;
  }[];
}

export async function rootsOf(server: Pick<ServerProcess, "url">): Promise<Roots> {
  return JSON.parse(await call(server, "GET", "/v1/connect/ca/roots")) as Roots;
}

/** A server that runs as a process. */
export function memberAt(server: Pick<ServerProcess, "url">, name: string): Member {
  return {
    name,
    async leaf() {
      const { TrustDomain } = await rootsOf(server);
      const { csr } = opensslCsr(`URI:spiffe://${TrustDomain}/ns/default/dc/${name}/svc/web`);
      const answer = await call(server, "PUT", "/v1/connect/ca/sign", csr);
      return (JSON.parse(answer) as { readonly CertPEM: string }).CertPEM;
    },
    roots: async () => (await rootsOf(server)).Roots.map(({ RootCert }) => RootCert),
  };
}

/** A leaf as it was sent by a member. */
export interface SentLeaf {
  readonly of: string;
  readonly pem: string;
}

/**
 * Requires that a new leaf of each member, and leaves that were signed before, verify by what each
 * member publishes now. A new one also verifies by what each published before it was signed, and by
 * each root alone that its own datacenter did. Members may follow a rotation concurrently.
 * @returns the new leaves.
 */
export async function requireAllVerify(
  members: readonly Member[],
  verifiers: readonly Verifier[],
  at = new Date(),
  before: readonly SentLeaf[] = [],
): Promise<readonly SentLeaf[]> {
  const listings = await Promise.all(members.map((member) => member.roots()));
  const made: SentLeaf[] = [];
  for (const [i, member] of members.entries()) {
    const sent = { of: member.name, pem: await member.leaf() };
    made.push(sent);
    for (const roots of [...listings, ...(listings[i] ?? []).map((root) => [root])])
      await requireVerified(sent, roots, verifiers, at);
  }
  for (const member of members) {
    const roots = await member.roots();
    for (const sent of [...before, ...made]) await requireVerified(sent, roots, verifiers, at);
  }
  return made;
}

async function requireVerified(
  { of, pem }: SentLeaf,
  roots: readonly string[],
  verifiers: readonly Verifier[],
  at: Date,
): Promise<void> {
  assert.ok(verifiers.length > 0 && roots.length > 0);
  const [leaf, ...chain] = readPem(pem).map(({ bytes }) => bytes);
  assert.ok(leaf !== undefined);
  assert.equal(new Set(chain.map(String)).size, chain.length, `a duplicate in a chain of ${of}`);
  const anchors = roots.flatMap((root) => readPem(root).map(({ bytes }) => bytes));
  const question = { leaf, chain, roots: anchors, at };
  const reasons = await Promise.all(verifiers.map((each) => each.verify(question)));
  for (const [i, reason] of reasons.entries())
    assert.equal(reason, null, `a leaf of ${of} by ${verifiers[i]?.name}`);
}
