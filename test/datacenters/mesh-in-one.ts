/**
 * Several datacenters in one process, on one fake clock, each with a key-encryption key of its own:
 * which one each follows, and which one each reaches, is up to the test.
 * @module
 */
import assert from "node:assert/strict";
import type { CertificateAuthority } from "../../src/core/ca/ca.ts";
import { ProviderError } from "../../src/core/errors.ts";
import { readPem } from "../../src/core/pem.ts";
import { NOBODY } from "../../src/core/ports/audit.ts";
import type {
  PeerDatacenters,
  PrimaryDatacenter,
  PrimaryListing,
} from "../../src/core/ports/primary.ts";
import { readCertificate } from "../../src/core/x509/certificate.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { MemoryBackend } from "../../src/store/memory/store.ts";
import { type Codec, createCodec } from "../../src/store/state-document.ts";
import { createCa, type FlatCaOptions, opensslCsr } from "../fakes/ca.ts";
import { createFakeClock, type FakeClock } from "../fakes/clock.ts";
import { listingOf } from "./pair.ts";

export interface Member {
  readonly name: string;
  readonly codec: Codec;
  readonly kek: string;
  ca: CertificateAuthority;
  /** The datacenter that its settings name as the primary one; null: itself. */
  follows: string | null;
  /** The datacenters that it cannot reach. */
  readonly cut: Set<string>;
  /** Those in its settings, besides the one that it follows. */
  readonly lists: Set<string>;
  /** What its servers answer in place of its roots. */
  answer: (listing: PrimaryListing) => PrimaryListing;
  /** Starts it again, over its store. @param keks more than its own */
  restart(keks?: readonly string[]): Promise<void>;
}

export class Mesh {
  readonly clock: FakeClock = createFakeClock();
  readonly members = new Map<string, Member>();

  of(name: string): Member {
    return this.members.get(name) ?? assert.fail(`no datacenter ${name}`);
  }

  /** Adds a datacenter and starts it. */
  async add(
    name: string,
    follows: string | null,
    options: Partial<FlatCaOptions> = {},
  ): Promise<Member> {
    const kek = makeKek();
    const backend = new MemoryBackend(this.clock);
    const open = async (more: readonly string[]) => {
      const sealer = createSealer(await readKeks([kek, ...more].join("\n")), name);
      const codec = createCodec(sealer, { name, isSecondary: member.follows !== null });
      const ports = backend.open(codec, name);
      member.ca = createCa({
        ...ports,
        sealer,
        clock: this.clock,
        ...{ datacenter: name, hasDatacenters: true },
        primary: member.follows === null ? null : this.#primaryOf(member),
        peers: this.#peersOf(member),
        self: { id: name, address: name },
        ...options,
      });
      return codec;
    };
    const member: Member = {
      ...{ name, kek, follows },
      ...{ codec: null as unknown as Codec, ca: null as unknown as CertificateAuthority },
      cut: new Set(),
      lists: new Set(),
      answer: (listing) => listing,
      restart: async (more = []) => {
        await member.ca.close();
        Object.assign(member, { codec: await open(more) });
        await member.ca.start();
        await member.ca.tick();
      },
    };
    Object.assign(member, { codec: await open([]) });
    this.members.set(name, member);
    await member.ca.tick();
    return member;
  }

  /** Lets time pass, and every datacenter do what is due. */
  async settle(ms = 60_000): Promise<void> {
    this.clock.advance(ms);
    for (const { ca } of this.members.values()) await ca.heartbeat();
    for (let i = 0; i < 4; i++) for (const { ca } of this.members.values()) await ca.tick();
  }

  /** Lets one datacenter look, and do what is due, a minute later. */
  async tick(name: string): Promise<void> {
    this.clock.advance(60_000);
    await this.of(name).ca.heartbeat();
    await this.of(name).ca.tick();
  }

  /** A leaf that a datacenter signs now, with its chain. */
  async leafOf(name: string) {
    const { ca } = this.of(name);
    const { trustDomain } = ca.require().state;
    const uri = `spiffe://${trustDomain}/ns/default/dc/${name}/svc/web`;
    const { certificatePem } = await ca.sign(opensslCsr(`URI:${uri}`).csr);
    const [leaf, ...chain] = readPem(certificatePem).map(({ bytes }) => readCertificate(bytes));
    return { leaf: leaf ?? assert.fail("no leaf"), chain };
  }

  /**
   * Requires that a leaf that each of some datacenters signs now verifies by the roots that each of
   * them publishes.
   */
  async requireTrust(names: readonly string[] = [...this.members.keys()]): Promise<void> {
    for (const signer of names) {
      const { leaf, chain } = await this.leafOf(signer);
      for (const verifier of names) await this.requireTrusted(leaf, chain, signer, verifier);
    }
  }

  async requireTrusted(
    leaf: Awaited<ReturnType<Mesh["leafOf"]>>["leaf"],
    chain: Awaited<ReturnType<Mesh["leafOf"]>>["chain"],
    signer: string,
    verifier: string,
  ): Promise<void> {
    const { roots } = this.of(verifier).ca.require().state;
    const paths = await Promise.all(
      roots.map(({ certificate }) => findPath(leaf, chain, certificate, this.clock.now())),
    );
    assert.ok(
      paths.some((path) => path !== null),
      `a leaf of ${signer} is not trusted in ${verifier}`,
    );
  }

  #reach(from: Member, name: string): Member {
    const to = this.members.get(name);
    if (to === undefined || from.cut.has(name) || to.cut.has(from.name))
      throw new ProviderError("provider_unavailable", `No server of ${name} answered`);
    return to;
  }

  /** What a server of a datacenter answers. */
  #listingOf(from: Member, name: string): PrimaryListing {
    const to = this.#reach(from, name);
    return to.answer(listingOf(to.ca.require()));
  }

  #primaryOf(member: Member): PrimaryDatacenter {
    let last = member.follows ?? member.name;
    const nameOf = () => {
      last = member.follows ?? last;
      return last;
    };
    return {
      get name() {
        return nameOf();
      },
      get isConfigured() {
        return member.follows !== null;
      },
      clockOffsetMs: null,
      maySign: async () => true,
      roots: async () => this.#listingOf(member, nameOf()),
      signIntermediate: (csr) =>
        this.#reach(member, nameOf()).ca.signIntermediate({
          ...{ csr, caller: NOBODY },
          permit: () => undefined,
        }),
    };
  }

  #peersOf(member: Member): PeerDatacenters {
    return {
      get names() {
        return [...member.lists];
      },
      claims: async () =>
        [...member.lists].flatMap((by) => {
          try {
            const { trustDomain, primacy } = this.#listingOf(member, by);
            return primacy === null ? [] : [{ by, trustDomain, ...primacy }];
          } catch {
            return [];
          }
        }),
    };
  }
}
