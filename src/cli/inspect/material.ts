/**
 * What a file, a URL or a server has of certificates, requests and keys.
 * @module
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import type { Bytes } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import { readPem, writePem } from "../../core/pem.ts";
import { type Certificate, readCertificate } from "../../core/x509/certificate.ts";
import { type CertificateRequest, readCsrDer, verifyProof } from "../../core/x509/csr.ts";
import { isLoopback } from "../../net/server-address.ts";
import { cannotRead } from "../connection/address.ts";
import type { Connection } from "../connection/connection.ts";
import { exchange, peerOf } from "../connection/exchange.ts";
import { readInput } from "../files.ts";
import { EXIT, Failure, usage } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { foreignFields, publicKeyOf } from "./foreign.ts";

/** Octets of a file or response: ten times the largest roots listing. */
const MAX_BYTES = 1024 * 1024;
const TIMEOUT_MS = 10_000;
/** Consul's roots listing. */
const ROOTS_PATH = "/v1/connect/ca/roots";

/** Something that was found, and where. */
export type Found =
  | { readonly kind: "certificate"; readonly where: string; readonly certificate: Certificate }
  | {
      readonly kind: "request";
      readonly where: string;
      readonly request: CertificateRequest;
      /** Whether its signature is that of its key. */
      readonly isProven: boolean;
    }
  | {
      readonly kind: "key";
      readonly where: string;
      readonly label: string;
      /** Of its public key; null if it cannot be read, as that of an encrypted key. */
      readonly spki: Bytes | null;
    }
  | {
      readonly kind: "unreadable";
      readonly where: string;
      readonly reason: string;
      /** What is known of it nevertheless. */
      readonly fields?: Readonly<Record<string, string>>;
    };

/**
 * Reads a target: a path, `-` for the standard input, a folder, `http://`, `https://`, or `HOST:PORT`,
 * to which TLS is spoken. Nothing that a server sends is verified. @throws {Failure}
 */
export async function readTarget(target: string, terminal: Terminal): Promise<readonly Found[]> {
  if (isUrl(target)) return readUrl(urlOf(target), fetchUnverified);
  if (isHostPort(target) && !isThere(target)) return readServer(target);
  return readPath(target, terminal);
}

/**
 * The certificates of a leaf and its chain, as a file or a server shows them.
 * @throws {Failure} if it has no certificate, or one that cannot be read
 */
export async function chainOf(target: string, terminal: Terminal): Promise<readonly Certificate[]> {
  return certificatesIn(await readTarget(target, terminal), target);
}

/**
 * The certificates that others are verified by, of a path or a URL.
 * @param connectTo the server of an address, which is verified
 * @throws {Failure} if it has no certificate, or one that cannot be read
 */
export async function anchorsOf(
  target: string,
  terminal: Terminal,
  connectTo: (address: string) => Connection,
): Promise<readonly Certificate[]> {
  if (!isUrl(target)) return certificatesIn(await readPath(target, terminal), target);
  const found = await readUrl(urlOf(target), (url) => {
    if (url.protocol === "http:" && !isLoopback(url))
      terminal.note(
        `Warning: the roots come from ${url.origin} without TLS, and can be changed on the way; use https://`,
      );
    return fetchText(connectTo(url.origin), `${url.pathname}${url.search}`);
  });
  return certificatesIn(found, target);
}

/** The roots of a server. @throws {Failure} */
export async function anchorsOfServer(connection: Connection): Promise<readonly Certificate[]> {
  const text = await fetchText(connection, ROOTS_PATH);
  return certificatesIn(await readListing(text, connection.name), connection.name);
}

const fetchText = async (connection: Connection, path: string): Promise<string> =>
  (await connection.call({ method: "GET", path })).body;

function certificatesIn(found: readonly Found[], target: string): readonly Certificate[] {
  const bad = found.find(({ kind }) => kind === "unreadable");
  if (bad?.kind === "unreadable") throw new Failure(EXIT.data, `${bad.where} ${bad.reason}`);
  const certificates = found.flatMap((one) =>
    one.kind === "certificate" ? [one.certificate] : [],
  );
  if (certificates.length > 0) return certificates;
  throw new Failure(EXIT.data, `${target} has no certificate`);
}

const isUrl = (target: string): boolean => /^https?:\/\//i.test(target);

/** @throws {Failure} */
function urlOf(target: string): URL {
  const url = URL.canParse(target) ? new URL(target) : null;
  if (url === null) throw usage(`${JSON.stringify(target)} is not a URL`);
  if (url.username !== "" || url.password !== "")
    throw usage(`The URL ${JSON.stringify(url.origin)} must not have a user`);
  return url;
}

const isHostPort = (target: string): boolean =>
  /^(?:\[[0-9a-f:]+\]|[^/\s:]+):\d{1,5}$/i.test(target);

const statOf = (path: string) => {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    // Reading it says why.
    return undefined;
  }
};
const isThere = (path: string): boolean => statOf(path) !== undefined;

async function readPath(path: string, terminal: Terminal): Promise<readonly Found[]> {
  if (path === "-") return readText(await terminal.readInput(), "The standard input");
  return statOf(path)?.isDirectory() === true
    ? readFolder(path, terminal)
    : readText(await readInput(path, "The file", terminal), path);
}

/** Every file of a credential folder that is PEM, each certificate once. */
async function readFolder(folder: string, terminal: Terminal): Promise<readonly Found[]> {
  const names = namesIn(folder)
    .filter((name) => /\.(?:crt|pem|key|csr)$/.test(name))
    .toSorted((a, b) => a.localeCompare(b));
  if (names.length === 0)
    throw new Failure(EXIT.noInput, `The folder ${JSON.stringify(folder)} has no file in PEM`);
  const seen = new Set<string>();
  const found: Found[] = [];
  for (const name of names)
    for (const one of await readText(
      await readInput(join(folder, name), "The file", terminal),
      name,
    )) {
      if (one.kind === "certificate") {
        if (seen.has(one.certificate.id)) continue;
        seen.add(one.certificate.id);
      }
      found.push(one);
    }
  return found;
}

/** @throws {Failure} */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    throw cannotRead("The folder", folder, error);
  }
}

const Listing = v.looseObject({
  Roots: v.array(
    v.looseObject({
      RootCert: v.string(),
      IntermediateCerts: v.fallback(v.nullable(v.array(v.string())), null),
    }),
  ),
});

/** A roots listing, or PEM. The address of a server is enough. */
async function readUrl(
  given: URL,
  fetch: (url: URL) => Promise<string>,
): Promise<readonly Found[]> {
  const url = new URL(given);
  if (url.pathname === "/") url.pathname = ROOTS_PATH;
  return readListing(await fetch(url), given.href);
}

async function readListing(body: string, where: string): Promise<readonly Found[]> {
  const listing = v.safeParse(v.pipe(v.string(), v.parseJson(), Listing), body);
  if (!listing.success) return readText(body, where);
  const all = await Promise.all(
    listing.output.Roots.map(({ RootCert, IntermediateCerts }, i) =>
      readText([RootCert, ...(IntermediateCerts ?? [])].join("\n"), `root ${i + 1}`),
    ),
  );
  return all.flat();
}

/** The certificates are shown and not trusted: TLS is not verified. */
async function fetchUnverified(url: URL): Promise<string> {
  const { status, body } = await exchange({
    ...{ method: "GET", url, socketPath: null, headers: {}, body: null },
    ...{ timeoutMs: TIMEOUT_MS, maxBytes: MAX_BYTES, serverName: null, client: null },
    verification: {
      ...{ ca: null, checkName: false, leafPin: null, verify: false },
      checkPeer: () => undefined,
    },
  }).catch((error: unknown) => {
    throw new Failure(EXIT.unavailable, `${url.origin} ${messageOf(error)}`, error);
  });
  if (status === 200) return body;
  throw new Failure(EXIT.unavailable, `${url.href} answered ${status}`);
}

/** What a server shows in its handshake. */
async function readServer(target: string): Promise<readonly Found[]> {
  const address = `https://${target}`;
  if (!URL.canParse(address))
    throw usage(`${JSON.stringify(target)} is neither a file nor HOST:PORT`);
  const url = new URL(address);
  try {
    const { leaf, chain } = await peerOf({ url, socketPath: null, serverName: null, client: null });
    return [leaf, ...chain].map((der, i) =>
      certificateIn(der, i === 0 ? target : `${target}, certificate ${i + 1} of its chain`),
    );
  } catch (error) {
    throw new Failure(EXIT.unavailable, `${target} ${messageOf(error)}`, error);
  }
}

/** The predicate of a sentence about a server. */
function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : "unknown error";
  // Those of the transport are predicates already.
  return /^[a-z]+ /.test(message) ? message : `cannot be reached: ${message}`;
}

/** @param where the file, for what is shown */
async function readText(text: string, where: string): Promise<readonly Found[]> {
  let blocks: ReturnType<typeof readPem>;
  try {
    blocks = readPem(text);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return [{ kind: "unreadable", where, reason: `is not PEM: ${error.message}` }];
  }
  if (blocks.length === 0) return [{ kind: "unreadable", where, reason: noPem(text) }];
  return Promise.all(
    blocks.map(async ({ label, bytes }, i): Promise<Found> => {
      const place = blocks.length === 1 ? where : `${where}, block ${i + 1}`;
      if (label === "CERTIFICATE") return certificateIn(bytes, place);
      if (/CERTIFICATE REQUEST$/.test(label)) return requestIn(bytes, place);
      if (/PRIVATE KEY$/.test(label))
        return { kind: "key", where: place, label, spki: publicKeyOf(writePem(label, bytes)) };
      return { kind: "unreadable", where: place, reason: `is ${label}, which is not explained` };
    }),
  );
}

/** Octets that are not text were replaced when the file was read. */
const noPem = (text: string): string =>
  /[\0\ufffd]/.test(text)
    ? "is not text: of DER, openssl x509 -inform der makes PEM, and of PKCS #12 openssl pkcs12 -nodes"
    : "has no certificate, request or key in PEM";

function certificateIn(der: Uint8Array, where: string): Found {
  try {
    return { kind: "certificate", where, certificate: readCertificate(der) };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return {
      kind: "unreadable",
      where,
      reason: `is a certificate that a mesh cannot use: ${error.message}`,
      fields: foreignFields(der),
    };
  }
}

async function requestIn(der: Uint8Array<ArrayBuffer>, where: string): Promise<Found> {
  try {
    const request = readCsrDer(der, true);
    const isProven = await verifyProof(request).then(
      () => true,
      () => false,
    );
    return { kind: "request", where, request, isProven };
  } catch (error) {
    const reason = error instanceof Error ? error.message : "unknown reason";
    return { kind: "unreadable", where, reason: `is a request that cannot be read: ${reason}` };
  }
}
