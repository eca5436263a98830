/**
 * How a server is verified: by a CA file, by the CAs that the runtime trusts, by the SPIFFE ID of a
 * server of the mesh, or by a pin.
 * @module
 */
import { ClientError } from "../../client/errors.ts";
import { readRootsListing } from "../../client/roots-listing.ts";
import { ServerTrust } from "../../client/server-trust.ts";
import { TransportError, type Trust } from "../../client/transport.ts";
import { type Bytes, hex, sha256 } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import { certificatePem } from "../../core/pem.ts";
import { type ServerOptions, urlOf } from "./address.ts";
import { exchange, peerOf, type Verification } from "./exchange.ts";

/** How long the roots may take, in milliseconds. */
const TIMEOUT_MS = 60_000;
/** More than any listing of roots, in octets. */
const MAX_BYTES = 1024 * 1024;

const SYSTEM: Verification = {
  ...{ ca: null, checkName: true, leafPin: null, verify: true },
  checkPeer: () => undefined,
};

/**
 * The ways to verify a server, in the order of the attempts.
 * @throws {ClientError} if the pin or the CA file cannot be used
 * @throws {TransportError} if a pin is given and the server cannot be reached
 */
export async function waysToVerify(options: ServerOptions): Promise<readonly Verification[]> {
  const { verify, pin, anchorsPem, url } = options;
  if (url.protocol !== "https:") return [SYSTEM];
  if (pin !== null) return waysOfPin(options, pin);
  if (!verify) return [{ ...SYSTEM, verify: false }];
  if (anchorsPem === null) return [SYSTEM];
  return waysOfFile(options, anchorsPem);
}

/** The pin of the server's certificate, else of a certificate that the server sends or publishes. */
async function waysOfPin(options: ServerOptions, pin: string): Promise<readonly Verification[]> {
  const { leaf, chain } = await peerOf(options);
  if (hex(sha256(leaf)) === pin) return [{ ...SYSTEM, leafPin: pin }];
  const anchor =
    chain.find((der) => hex(sha256(der)) === pin) ??
    (await publishedRoots(options)).find((der) => hex(sha256(der)) === pin);
  if (anchor === undefined)
    throw new ClientError(
      "untrusted",
      `The server at ${options.name} has another certificate than the pinned one: sha256:${hex(sha256(leaf))}; compare it with the fingerprint in the server's log`,
    );
  return waysOfFile(options, certificatePem(anchor));
}

/** The roots in the server's listing, which nothing vouches for: only for a comparison. */
async function publishedRoots(options: ServerOptions): Promise<readonly Bytes[]> {
  const { socketPath, serverName, client } = options;
  try {
    const { body } = await exchange({
      ...{ socketPath, serverName, client },
      ...{ method: "GET", url: urlOf(options, { path: "/v1/connect/ca/roots" }) },
      ...{ headers: {}, body: null, timeoutMs: TIMEOUT_MS, maxBytes: MAX_BYTES },
      verification: { ...SYSTEM, verify: false },
    });
    return readRootsListing(body).roots.map(({ der }) => der);
  } catch (error) {
    if (error instanceof FormatError || error instanceof TransportError) return [];
    throw error;
  }
}

/** Roots of a mesh verify the SPIFFE ID of a server, other CAs its name. */
async function waysOfFile({ url }: ServerOptions, pem: string): Promise<readonly Verification[]> {
  const trust = new ServerTrust({
    readCaFile: () => Promise.resolve(pem),
    pin: null,
    // A server of any datacenter of the mesh: it sends a request for another one on.
    datacenter: null,
  });
  return (await trust.waysTo(url)).map((way: Trust) => ({
    ca: way.kind === "none" ? null : way.anchors.map((der) => certificatePem(der)),
    checkName: way.kind === "host",
    leafPin: null,
    verify: true,
    checkPeer: (leaf) => trust.checkPeer(way, leaf),
  }));
}
