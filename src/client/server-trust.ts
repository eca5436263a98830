/**
 * What a server of the CA is verified by: a CA file, a pinned root, and the mesh's own roots as they
 * rotate. Which of them ended the path decides what the server's certificate must name.
 * @module
 */
import { type Bytes, hex, sha256 } from "../core/bytes.ts";
import { FormatError, RequestError, readOrNull } from "../core/errors.ts";
import { readPem } from "../core/pem.ts";
import { parseSpiffeId, type SpiffeId } from "../core/spiffe/id.ts";
import { type Certificate, readCertificate } from "../core/x509/certificate.ts";
import { isLoopback } from "../net/server-address.ts";
import { ClientError } from "./errors.ts";
import type { RootsListing } from "./roots-listing.ts";
import type { TrustBundle } from "./svid.ts";
import { TransportError, type Trust } from "./transport.ts";

const PIN = /^sha256:([0-9a-f]{64})$/i;

export interface ServerTrustOptions {
  /** Reads the CA file, in PEM, at each contact that needs it; null without one. */
  readonly readCaFile: (() => Promise<string>) | null;
  /** `sha256:HEX` of a root's DER, or null. */
  readonly pin: string | null;
  /** The datacenter that servers must be of, or null for any. */
  readonly datacenter: string | null;
  /** Whether the platform verifies servers, and takes no other CAs. @default false */
  readonly isVerifiedByPlatform?: boolean;
  /** Whether a CA file that was replaced is read again without SIGHUP. @default true */
  readonly isReadAgain?: boolean;
}

/** Anchors of the mesh: roots with the SPIFFE ID of their trust domain. */
type MeshTrust = Extract<Trust, { readonly kind: "spiffe" }>;

export class ServerTrust {
  readonly #options: ServerTrustOptions;
  readonly #pin: string | null;
  #mesh: MeshTrust | null = null;
  /** The root with the pin's hash, once a server has shown it. */
  #pinned: MeshTrust | null = null;
  /** The contents of the CA file that `#file` was made of. */
  #pem = "";
  #file: readonly Trust[] = [];

  /** @throws {FormatError} if the pin is malformed, with its subject */
  constructor(options: ServerTrustOptions) {
    this.#options = options;
    this.#pin = options.pin === null ? null : readPin(options.pin);
  }

  /** Whether a server on another machine can be verified at the first contact. */
  get canVerify(): boolean {
    const { readCaFile, isVerifiedByPlatform } = this.#options;
    return readCaFile !== null || this.#pin !== null || isVerifiedByPlatform === true;
  }

  /** Whether a root is pinned, which the roots of a server can be compared with. */
  get isPinned(): boolean {
    return this.#pin !== null;
  }

  /**
   * When the last of the certificates expired that verify servers, by this instant: no server can be
   * verified any more. Null if one is valid, if none is known yet, and if the dates of one cannot be
   * read.
   */
  expiredAt(now: Date): Date | null {
    let last: Date | null = null;
    const known = [this.#mesh, this.#pinned].filter((trust) => trust !== null);
    for (const trust of [...known, ...this.#file])
      for (const der of trust.kind === "none" ? [] : trust.anchors) {
        const end = readOrNull(() => readCertificate(der))?.notAfter ?? null;
        if (end === null || end > now) return null;
        if (last === null || end > last) last = end;
      }
    return last;
  }

  /** What brings the trust back if the mesh's own roots verify no server any more. */
  get wayBack(): string {
    const { readCaFile, isReadAgain = true } = this.#options;
    if (this.#pin !== null)
      return "after a forced rotation set the pin to the new active root's sha256";
    if (readCaFile === null) return "set the CA file or the pin to a root that is published now";
    return `after a forced rotation write the new roots into the CA file, which is read again${isReadAgain ? "" : " after SIGHUP"}`;
  }

  /** The mesh's roots, from a server that was verified or from the cache. */
  trustRoots({ roots, trustDomain }: Pick<TrustBundle, "roots" | "trustDomain">): void {
    const same =
      this.#mesh !== null &&
      this.#mesh.trustDomain === trustDomain &&
      fingerprint(this.#mesh.anchors) === fingerprint(roots);
    // The identity of the value is the identity of its connections.
    if (!same) this.#mesh = { kind: "spiffe", anchors: roots, trustDomain };
  }

  /**
   * The ways to verify a server, the mesh's own roots first. None if a pin has to be resolved.
   * @throws {ClientError} `untrusted` if the CA file has no certificate
   */
  async waysTo(url: URL): Promise<readonly Trust[]> {
    if (url.protocol === "http:" || this.#options.isVerifiedByPlatform === true) return [PLAIN];
    if (!this.canVerify && isLoopback(url)) return [PLAIN];
    const file = await this.#ofFile();
    return this.#mesh === null ? file : [this.#mesh, ...file];
  }

  /**
   * The trust that a pin gives: the root with its hash, found in a listing that nobody vouches for.
   * @throws {ClientError} `untrusted` if there is none
   */
  ofPinned({ roots, trustDomain }: RootsListing): Trust {
    const root = roots.find(({ der }) => hex(sha256(der)) === this.#pin);
    if (root === undefined)
      throw new ClientError(
        "untrusted",
        `The pin matches none of the ${roots.length} roots that the server publishes; set it to sha256:HEX of a published root's DER`,
      );
    this.#pinned = {
      kind: "spiffe",
      anchors: [root.der],
      trustDomain: trustDomainOfRoot(root) ?? trustDomain,
    };
    return this.#pinned;
  }

  /** Checks the names in a server's leaf. @throws {TransportError} `tls` */
  checkPeer(trust: Trust, der: Bytes): void {
    if (trust.kind === "none") return;
    const leaf = readOrNull(() => readCertificate(der));
    if (leaf === null) {
      // A certificate of another CA may have a key or a form that no certificate of a mesh has.
      if (trust.kind === "host") return;
      throw new TransportError("tls", "has a certificate that cannot be read");
    }
    const ids = leaf.uris.map(spiffeIdOf);
    if (trust.kind === "host") {
      // A root of the mesh may have been issued by a CA in the file: a service's DNS name proves no
      // server.
      if (ids.some((id) => id !== null && id.kind !== "server"))
        throw new TransportError("tls", "has the certificate of a workload, not of a server");
      return;
    }
    const [id = null] = ids;
    const expected = `spiffe://${trust.trustDomain}/agent/server/dc/${this.#options.datacenter ?? "DATACENTER"}`;
    if (
      ids.length !== 1 ||
      id?.kind !== "server" ||
      id.trustDomain !== trust.trustDomain ||
      (this.#options.datacenter !== null && id.datacenter !== this.#options.datacenter)
    )
      throw new TransportError(
        "tls",
        `has a certificate of the mesh without the SPIFFE ID of a server, ${expected}`,
      );
  }

  async #ofFile(): Promise<readonly Trust[]> {
    const read = this.#options.readCaFile;
    if (read === null) return [];
    let pem: string;
    try {
      pem = await read();
    } catch (cause) {
      // What was read before stays in use.
      if (this.#file.length > 0) return this.#file;
      throw new ClientError("untrusted", "The CA file cannot be read", { cause });
    }
    if (pem !== this.#pem) {
      this.#file = readAnchors(pem);
      this.#pem = pem;
    }
    return this.#file;
  }
}

const PLAIN: Trust = { kind: "none" };

function readPin(text: string): string {
  const [, digits] = PIN.exec(text) ?? [];
  if (digits === undefined)
    throw new FormatError("The pin must be sha256: and 64 hexadecimal digits");
  return digits.toLowerCase();
}

/**
 * Splits the certificates of a CA file: roots of meshes, by trust domain, and other CAs.
 * @throws {ClientError} `untrusted`
 */
function readAnchors(pem: string): readonly Trust[] {
  const blocks = readOrNull(() => readPem(pem))?.filter(({ label }) => label === "CERTIFICATE");
  if (blocks === undefined || blocks.length === 0)
    throw new ClientError("untrusted", "The CA file has no certificate in PEM");
  const others: Bytes[] = [];
  const meshes = new Map<string, Bytes[]>();
  for (const { bytes } of blocks) {
    // Files of a system's CAs have certificates that this reader refuses, and none of a mesh.
    const certificate = readOrNull(() => readCertificate(bytes));
    const trustDomain = certificate === null ? null : trustDomainOfRoot(certificate);
    if (trustDomain === null) others.push(bytes);
    else meshes.set(trustDomain, [...(meshes.get(trustDomain) ?? []), bytes]);
  }
  const trusts: Trust[] = [...meshes].map(([trustDomain, anchors]) => ({
    kind: "spiffe",
    anchors,
    trustDomain,
  }));
  return others.length === 0 ? trusts : [...trusts, { kind: "host", anchors: others }];
}

/** The trust domain that a root of a mesh names, or null. */
function trustDomainOfRoot({ uris }: Certificate): string | null {
  const ids = uris.map(spiffeIdOf).filter((id) => id?.kind === "signing");
  return ids.length === 1 ? (ids[0]?.trustDomain ?? null) : null;
}

function spiffeIdOf(uri: string): SpiffeId | null {
  try {
    return parseSpiffeId(uri);
  } catch (error) {
    if (error instanceof RequestError) return null;
    throw error;
  }
}

function fingerprint(anchors: readonly Bytes[]): string {
  return anchors.map((der) => hex(sha256(der))).join();
}
