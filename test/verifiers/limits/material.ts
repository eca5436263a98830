/**
 * Chains as rotations make them, of any length and size, and chains with one oddity each, for
 * verifiers that trust the roots of a set.
 * @module
 */
import "reflect-metadata";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Extension } from "@peculiar/x509";
import { utf8 } from "../../../src/core/bytes.ts";
import { type Authority, generateCaKey } from "../../../src/core/x509/authority.ts";
import { type Certificate, KEY_USAGE, pemOf } from "../../../src/core/x509/certificate.ts";
import {
  contextConstructed,
  contextPrimitive,
  element,
  encode,
  octetString,
  sequence,
} from "../../../src/core/x509/der.ts";
import { type CaKeySpec, readPublicKey } from "../../../src/core/x509/keys.ts";
import { leafKeyUsage } from "../../../src/core/x509/leaf.ts";
import { OID } from "../../../src/core/x509/oids.ts";
import {
  type Extensions,
  makeOdd,
  makeOddCa,
  type OddCertificate,
  usage,
} from "../../core/x509/odd-certificates.ts";

/** Roots that a verifier trusts: the oldest one of the rotations, all of them, or the third one. */
export const TRUSTS = ["oldest", "all", "third"] as const;
export type Trust = (typeof TRUSTS)[number];

/** What a peer presents, and the path that a verifier finds in it. */
export interface Presented {
  readonly trust: Trust;
  /** What the peer sends, the leaf first. */
  readonly sent: readonly Certificate[];
  /** The leaf first, the root last. */
  readonly path: readonly Certificate[];
  /** Files in PEM. */
  readonly chain: string;
  readonly key: string;
}

/** Cross-signed certificates in the longest chain: more than any bound of a path. */
export const CROSSINGS = 110;
/** The kinds of keys that roots, issuers and leaves of a mesh may have. */
export const CA_KEYS: readonly CaKeySpec[] = [
  { type: "ec", bits: 256 },
  { type: "ec", bits: 384 },
  { type: "ec", bits: 521 },
  { type: "rsa", bits: 2048 },
  { type: "rsa", bits: 4096 },
];

const RSA: CaKeySpec = { type: "rsa", bits: 2048 };

export type LeafKeyKind = CaKeySpec | "ed25519";

interface LeafKey {
  readonly spki: Uint8Array<ArrayBuffer>;
  /** A file in PEM. */
  readonly path: string;
}

/** An extension that no program knows, not critical, with so many octets. */
const padding = (octets: number): Extension =>
  new Extension("1.3.6.1.4.1.32473.1", false, encode(octetString(new Uint8Array(octets))));

/** Critical name constraints that permit one DNS name (RFC 5280 §4.2.1.10). */
const permitting = (dnsName: string): Extension => {
  const subtree = sequence(element(contextPrimitive(2), utf8(dnsName)));
  const value = sequence(element(contextConstructed(0), subtree));
  return new Extension(OID.nameConstraints, true, encode(value));
};

export class Material {
  readonly #folder: string;
  readonly #roots: Authority[] = [];
  /** The cross-signed certificate of each root but the first, by the root before it. */
  readonly #crossings: Certificate[] = [];
  /** Roots of their own, which are trusted with the oldest one. */
  readonly #others: Authority[] = [];
  readonly #keys = new Map<string, Promise<LeafKey>>();
  readonly #rotated = new Map<string, Promise<Presented>>();
  #issued = 0;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Makes the roots, as after that many rotations. */
  static async make(folder: string): Promise<Material> {
    const made = new Material(folder);
    for (let i = 0; i <= CROSSINGS; i++) await made.#rotate();
    for (const keySpec of CA_KEYS)
      made.#others.push(
        await makeOddCa(null, { ...made.#odd(), keySpec, subject: `CN=${nameOf(keySpec)}` }),
      );
    return made;
  }

  async #rotate(): Promise<void> {
    const at = this.#roots.length;
    const before = this.#roots.at(-1);
    const root = await makeOddCa(null, { ...this.#odd(), subject: `CN=root ${at}` });
    this.#roots.push(root);
    if (before !== undefined) this.#crossings.push(await this.#cross(root, before));
  }

  async #cross(root: Authority, by: Authority, extensions: Partial<Extensions> = {}) {
    const subject = `CN=root ${this.#roots.indexOf(root)}`;
    return (await makeOddCa(by, { ...this.#odd(), subject, key: root, extensions })).certificate;
  }

  /** A serial number of its own and a validity around now: verifiers go by the real time. */
  #odd(): OddCertificate {
    const hour = 3_600_000;
    return {
      serial: `40${(++this.#issued).toString(16).padStart(8, "0")}`,
      notBefore: new Date(Date.now() - hour),
      notAfter: new Date(Date.now() + 24 * hour),
    };
  }

  /** The roots of a set. */
  roots(trust: Trust): readonly Certificate[] {
    const chosen = {
      oldest: [...this.#roots.slice(0, 1), ...this.#others],
      all: this.#roots,
      third: this.#roots.slice(2, 3),
    }[trust];
    return chosen.map(({ certificate }) => certificate);
  }

  /** Writes a file. @returns its path */
  write(text: string): string {
    const path = join(this.#folder, `${++this.#issued}.pem`);
    writeFileSync(path, text);
    return path;
  }

  /** A key of a kind, which all its leaves share. */
  #leafKey(kind: LeafKeyKind = { type: "ec", bits: 256 }): Promise<LeafKey> {
    const made = this.#keys.get(nameOf(kind)) ?? this.#newKey(kind);
    this.#keys.set(nameOf(kind), made);
    return made;
  }

  async #newKey(kind: LeafKeyKind): Promise<LeafKey> {
    const { privateKey, spki } =
      kind === "ed25519" ? await ed25519() : await generateCaKey(kind).then(spkiOf);
    const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey));
    const body = Buffer.from(pkcs8).toString("base64").replace(/.{64}/g, "$&\n");
    return {
      spki,
      path: this.write(`-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----\n`),
    };
  }

  #present(
    trust: Trust,
    key: LeafKey,
    sent: readonly Certificate[],
    path: readonly Certificate[],
  ): Presented {
    return { trust, sent, path, chain: this.write(sent.map(pemOf).join("")), key: key.path };
  }

  /** A leaf of a root, after so many rotations, with all crossings down to the oldest root. */
  rotated(trust: Trust, crossings: number): Promise<Presented> {
    const name = `${trust} ${crossings}`;
    const made = this.#rotated.get(name) ?? this.#newRotated(trust, crossings);
    this.#rotated.set(name, made);
    return made;
  }

  async #newRotated(trust: Trust, crossings: number): Promise<Presented> {
    const key = await this.#leafKey();
    const leaf = await makeOdd(this.#root(crossings), { ...this.#odd(), spki: key.spki });
    const chain = this.#crossings.slice(0, crossings).toReversed();
    const passed = { oldest: chain, all: [], third: chain.slice(0, crossings - 2) }[trust];
    const root = this.#root({ oldest: 0, all: crossings, third: 2 }[trust]);
    return this.#present(trust, key, [leaf, ...chain], [leaf, ...passed, root.certificate]);
  }

  #root(at: number): Authority {
    const root = this.#roots[at];
    if (root === undefined) throw new RangeError(`There is no root ${at}`);
    return root;
  }

  /** A leaf after three rotations, each certificate with an extension of so many octets. */
  async large(octets: number): Promise<Presented> {
    const key = await this.#leafKey();
    const more = { more: padding(octets) };
    const leaf = await makeOdd(this.#root(3), { ...this.#odd(), spki: key.spki, extensions: more });
    const chain: Certificate[] = [];
    for (const at of [3, 2, 1])
      chain.push(await this.#cross(this.#root(at), this.#root(at - 1), more));
    const sent = [leaf, ...chain];
    return this.#present("oldest", key, sent, [...sent, this.#root(0).certificate]);
  }

  /** A chain whose cross-signed certificates come in the wrong order. */
  async reversed(crossings: number): Promise<Presented> {
    const { path, key } = await this.rotated("oldest", crossings);
    const [leaf, ...chain] = path.slice(0, -1) as [Certificate, ...Certificate[]];
    const sent = [leaf, ...chain.toReversed()];
    return { trust: "oldest", sent, path, key, chain: this.write(sent.map(pemOf).join("")) };
  }

  /** A chain after six rotations, with a certificate in it that does not belong to it. */
  async interspersed(): Promise<Presented> {
    const { path, key } = await this.rotated("oldest", 6);
    const sent = path.slice(0, -1).toSpliced(2, 0, this.#root(CROSSINGS).certificate);
    return { trust: "oldest", sent, path, key, chain: this.write(sent.map(pemOf).join("")) };
  }

  /** A leaf of a root whose key is of a kind. */
  async signedBy(kind: CaKeySpec): Promise<Presented> {
    const root = this.#others[CA_KEYS.indexOf(kind)];
    if (root === undefined) throw new RangeError("There is no root with this kind of key");
    return this.#below(root, null);
  }

  /** A leaf with a key of a kind, and the key usage that the CA gives it. */
  async leafOf(kind: LeafKeyKind): Promise<Presented> {
    const keyUsage = usage(leafKeyUsage(kind === "ed25519" ? kind : kind.type));
    return this.#below(this.#root(0), null, { keyUsage }, kind);
  }

  /** A leaf with other extensions than a good one. */
  async leafWith(extensions: Partial<Extensions>, kind?: CaKeySpec): Promise<Presented> {
    return this.#below(this.#root(0), null, extensions, kind);
  }

  /** A leaf below an issuer with other extensions than a good one. */
  async issuerWith(extensions: Partial<Extensions>): Promise<Presented> {
    const odd = { ...this.#odd(), subject: "CN=issuer", extensions };
    return this.#below(this.#root(0), await makeOddCa(this.#root(0), odd));
  }

  async #below(
    root: Authority,
    issuer: Authority | null,
    extensions: Partial<Extensions> = {},
    kind?: LeafKeyKind,
  ): Promise<Presented> {
    const key = await this.#leafKey(kind);
    const odd = { ...this.#odd(), spki: key.spki, extensions };
    const leaf = await makeOdd(issuer ?? root, odd);
    const sent = issuer === null ? [leaf] : [leaf, issuer.certificate];
    return this.#present("oldest", key, sent, [...sent, root.certificate]);
  }
}

export const nameOf = (kind: LeafKeyKind): string =>
  kind === "ed25519" ? "Ed25519" : `${kind.type === "ec" ? "P-" : "RSA "}${kind.bits}`;

const spkiOf = ({ privateKey, info }: Awaited<ReturnType<typeof generateCaKey>>) => ({
  privateKey,
  spki: info.spki,
});

async function ed25519() {
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  const { privateKey, publicKey } = pair as CryptoKeyPair;
  const { spki } = readPublicKey(new Uint8Array(await crypto.subtle.exportKey("spki", publicKey)));
  return { privateKey, spki };
}

/** Chains with one oddity, by its name. */
export const ODDITIES: Readonly<Record<string, (material: Material) => Promise<Presented>>> = {
  "five crossings in the wrong order": (material) => material.reversed(5),
  "six crossings in the wrong order": (material) => material.reversed(6),
  "an unrelated certificate among crossings": (material) => material.interspersed(),
  "crossings beyond the only trusted root": (material) => material.rotated("third", 4),
  ...Object.fromEntries(
    CA_KEYS.map((kind) => [
      `signatures by ${nameOf(kind)}`,
      (material: Material) => material.signedBy(kind),
    ]),
  ),
  ...Object.fromEntries(
    [...CA_KEYS, "ed25519" as const].map((kind) => [
      `a leaf on ${nameOf(kind)}`,
      (material: Material) => material.leafOf(kind),
    ]),
  ),
  "name constraints that permit the leaf": (material) =>
    material.issuerWith({ more: permitting("localhost") }),
  "name constraints that exclude the leaf": (material) =>
    material.issuerWith({ more: permitting("example.com") }),
  "an issuer without key usage": (material) => material.issuerWith({ keyUsage: null }),
  "an issuer without keyCertSign": (material) =>
    material.issuerWith({ keyUsage: usage(KEY_USAGE.cRLSign) }),
  "a leaf without key usage": (material) => material.leafWith({ keyUsage: null }),
  "a leaf without digitalSignature": (material) =>
    material.leafWith({ keyUsage: usage(KEY_USAGE.keyEncipherment) }),
  "a leaf for neither signatures nor encipherment": (material) =>
    material.leafWith({ keyUsage: usage(KEY_USAGE.cRLSign) }),
  "an RSA leaf for neither signatures nor encipherment": (material) =>
    material.leafWith({ keyUsage: usage(KEY_USAGE.cRLSign) }, RSA),
  "an RSA leaf without keyEncipherment": (material) =>
    material.leafWith({ keyUsage: usage(KEY_USAGE.digitalSignature) }, RSA),
  "an RSA leaf without digitalSignature": (material) =>
    material.leafWith({ keyUsage: usage(KEY_USAGE.keyEncipherment) }, RSA),
  "a leaf without extended key usage": (material) => material.leafWith({ extKeyUsage: null }),
};
