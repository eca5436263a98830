/**
 * What a file, a URL or a server has of certificates, requests and keys.
 * @module
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { FormatError } from "../../core/errors.ts";
import { readPem } from "../../core/pem.ts";
import { type Certificate, readCertificate } from "../../core/x509/certificate.ts";
import { type CertificateRequest, readCsrDer, verifyProof } from "../../core/x509/csr.ts";
import { readRegularFile } from "../../entry/regular-file.ts";
import { cannotRead } from "../connection/address.ts";
import { exchange, peerOf } from "../connection/exchange.ts";
import { EXIT, Failure } from "../output.ts";

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
  | { readonly kind: "key"; readonly where: string; readonly label: string }
  | { readonly kind: "unreadable"; readonly where: string; readonly reason: string };

/** Reads a target: a path, a folder, `http://`, `https://`, or `HOST:PORT`, to which TLS is spoken. */
export async function readTarget(target: string): Promise<readonly Found[]> {
  if (/^https?:\/\//i.test(target)) return readUrl(target);
  if (/^(?:\[[0-9a-f:]+\]|[^/\s:]+):\d{1,5}$/i.test(target) && !isThere(target))
    return readServer(target);
  return isFolder(target) ? readFolder(target) : readText(readFile(target), target);
}

/** The certificates of a target. @throws {Failure} if it has none, or one that cannot be read */
export async function certificatesOf(target: string): Promise<readonly Certificate[]> {
  const found = await readTarget(target);
  const bad = found.find(({ kind }) => kind === "unreadable");
  if (bad?.kind === "unreadable") throw new Failure(EXIT.data, `${bad.where} ${bad.reason}`);
  const certificates = found.flatMap((one) =>
    one.kind === "certificate" ? [one.certificate] : [],
  );
  if (certificates.length > 0) return certificates;
  throw new Failure(EXIT.data, `${target} has no certificate`);
}

const isThere = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined;
const isFolder = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

function readFile(path: string): string {
  try {
    return readRegularFile(path);
  } catch (error) {
    throw cannotRead("The file", path, error);
  }
}

/** Every file of a credential folder that is PEM, each certificate once. */
async function readFolder(folder: string): Promise<readonly Found[]> {
  const names = readdirSync(folder)
    .filter((name) => /\.(?:crt|pem|key|csr)$/.test(name))
    .toSorted((a, b) => a.localeCompare(b));
  if (names.length === 0)
    throw new Failure(EXIT.noInput, `The folder ${JSON.stringify(folder)} has no file in PEM`);
  const seen = new Set<string>();
  const found: Found[] = [];
  for (const name of names)
    for (const one of await readText(readFile(join(folder, name)), name)) {
      if (one.kind === "certificate") {
        if (seen.has(one.certificate.id)) continue;
        seen.add(one.certificate.id);
      }
      found.push(one);
    }
  return found;
}

const Listing = v.looseObject({
  Roots: v.array(
    v.looseObject({
      RootCert: v.string(),
      IntermediateCerts: v.fallback(v.nullable(v.array(v.string())), null),
    }),
  ),
});

/** A roots listing, or PEM. The certificates are shown and not trusted: TLS is not verified. */
async function readUrl(target: string): Promise<readonly Found[]> {
  if (!URL.canParse(target))
    throw new Failure(EXIT.usage, `${JSON.stringify(target)} is not a URL`);
  const url = new URL(target);
  // The address of a server is enough.
  if (url.pathname === "/") url.pathname = ROOTS_PATH;
  const { status, body } = await answerOf(url);
  if (status !== 200) throw new Failure(EXIT.unavailable, `${url.href} answered ${status}`);
  const listing = v.safeParse(v.pipe(v.string(), v.parseJson(), Listing), body);
  if (!listing.success) return readText(body, target);
  const all = await Promise.all(
    listing.output.Roots.map(({ RootCert, IntermediateCerts }, i) =>
      readText([RootCert, ...(IntermediateCerts ?? [])].join("\n"), `root ${i + 1}`),
    ),
  );
  return all.flat();
}

async function answerOf(url: URL) {
  try {
    return await exchange({
      ...{ method: "GET", url, socketPath: null, headers: {}, body: null },
      ...{ timeoutMs: TIMEOUT_MS, maxBytes: MAX_BYTES, serverName: null, client: null },
      verification: {
        ...{ ca: null, checkName: false, leafPin: null, verify: false },
        checkPeer: () => undefined,
      },
    });
  } catch (error) {
    throw new Failure(EXIT.unavailable, `${url.origin} ${messageOf(error)}`, error);
  }
}

/** What a server shows in its handshake. */
async function readServer(target: string): Promise<readonly Found[]> {
  const url = new URL(`https://${target}`);
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
  if (blocks.length === 0)
    return [{ kind: "unreadable", where, reason: "has no certificate, request or key in PEM" }];
  return Promise.all(
    blocks.map(async ({ label, bytes }, i): Promise<Found> => {
      const place = blocks.length === 1 ? where : `${where}, block ${i + 1}`;
      if (label === "CERTIFICATE") return certificateIn(bytes, place);
      if (/CERTIFICATE REQUEST$/.test(label)) return requestIn(bytes, place);
      if (/PRIVATE KEY$/.test(label)) return { kind: "key", where: place, label };
      return { kind: "unreadable", where: place, reason: `is ${label}, which is not explained` };
    }),
  );
}

function certificateIn(der: Uint8Array, where: string): Found {
  try {
    return { kind: "certificate", where, certificate: readCertificate(der) };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return {
      kind: "unreadable",
      where,
      reason: `is a certificate that cannot be read: ${error.message}`,
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
