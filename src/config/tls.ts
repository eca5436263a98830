/**
 * How the API is served beyond plain HTTP: which certificate the server shows, and which client
 * certificates it requests.
 * @module
 */
import * as v from "valibot";
import type { Bytes } from "../core/bytes.ts";
import type { ServerNames } from "../core/x509/leaf.ts";
import { ipOctets } from "../net/ip.ts";
import type { Faults } from "./faults.ts";
import { fileName } from "./values.ts";

export interface TlsSettings {
  /** The server's certificate: of files, or of our own CA for these names. */
  readonly source:
    | { readonly kind: "files"; readonly certFile: string; readonly keyFile: string }
    | { readonly kind: "self"; readonly names: ServerNames };
  /** The issuers of client certificates: our CA or those of a file; null: none is requested. */
  readonly clientCa:
    | { readonly kind: "self" }
    | { readonly kind: "file"; readonly path: string }
    | null;
  readonly clientCertificate: "optional" | "required";
  readonly minVersion: "TLSv1.2" | "TLSv1.3";
}

/** The settings of TLS, as a part of the schema of all settings. */
export const TLS_ENTRIES = {
  /** A certificate of our own CA. */
  MESHCA_TLS: v.optional(
    v.picklist(["self"], "must be self; for a certificate of your own set MESHCA_TLS_CERT_FILE"),
  ),
  /** More names for the certificate of our own CA. */
  MESHCA_TLS_NAMES: v.optional(v.string()),
  MESHCA_TLS_CERT_FILE: v.optional(fileName),
  MESHCA_TLS_KEY_FILE: v.optional(fileName),
  /** The issuers of client certificates, or self for our own roots. */
  MESHCA_TLS_CLIENT_CA_FILE: v.optional(
    v.pipe(v.string(), v.nonEmpty("must name a file, or be self")),
  ),
  MESHCA_TLS_CLIENT_CERT: v.optional(
    v.picklist(["optional", "required"], "must be optional or required"),
    "optional",
  ),
  MESHCA_TLS_MIN_VERSION: v.optional(v.picklist(["1.2", "1.3"], "must be 1.2 or 1.3"), "1.2"),
  MESHCA_PLAIN_HTTP: v.optional(
    v.picklist(
      ["behind-proxy"],
      'must be "behind-proxy"; plain HTTP is allowed only behind a TLS-terminating proxy',
    ),
  ),
};

type TlsGiven = v.InferOutput<ReturnType<typeof v.object<typeof TLS_ENTRIES, undefined>>>;

interface Served {
  /** The host to listen on. */
  readonly host: string;
  /** The host of MESHCA_ADVERTISE, or null. */
  readonly advertised: string | null;
  readonly connectEnabled: boolean;
  /** Whether the file has a port for HTTPS. */
  readonly https: boolean;
}

/** Puts the settings of TLS together. @returns null for plain HTTP */
export function tlsSettings(given: TlsGiven, served: Served, faults: Faults): TlsSettings | null {
  const { MESHCA_TLS_CERT_FILE: certFile, MESHCA_TLS_KEY_FILE: keyFile } = given;
  const names = serverNames(served, given.MESHCA_TLS_NAMES, faults);
  if (given.MESHCA_TLS === undefined && certFile === undefined && keyFile === undefined) {
    refuseWithoutTls(given, served, faults);
    return null;
  }
  refuseContradictions(given, served, faults);
  const { MESHCA_TLS_CLIENT_CA_FILE: ca } = given;
  return {
    source:
      certFile === undefined || keyFile === undefined
        ? { kind: "self", names }
        : { kind: "files", certFile, keyFile },
    clientCa:
      ca === undefined ? null : ca === "self" ? { kind: "self" } : { kind: "file", path: ca },
    clientCertificate: given.MESHCA_TLS_CLIENT_CERT,
    minVersion: given.MESHCA_TLS_MIN_VERSION === "1.3" ? "TLSv1.3" : "TLSv1.2",
  };
}

function refuseWithoutTls(given: TlsGiven, { https }: Served, faults: Faults): void {
  for (const name of ["MESHCA_TLS_CLIENT_CA_FILE", "MESHCA_TLS_NAMES"] as const)
    if (given[name] !== undefined)
      faults.add(
        name,
        "needs TLS: set MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, or MESHCA_TLS=self",
      );
  if (given.MESHCA_TLS_CLIENT_CERT === "required")
    faults.add("MESHCA_TLS_CLIENT_CERT", "needs TLS");
  if (https)
    faults.add(
      "ports.https",
      'needs a certificate: tls.https.cert_file and tls.https.key_file, or "tls": "self"',
    );
}

function refuseContradictions(given: TlsGiven, { connectEnabled }: Served, faults: Faults): void {
  const isSelf = given.MESHCA_TLS !== undefined;
  const hasCert = given.MESHCA_TLS_CERT_FILE !== undefined;
  const hasKey = given.MESHCA_TLS_KEY_FILE !== undefined;
  const ca = given.MESHCA_TLS_CLIENT_CA_FILE;
  if (isSelf && (hasCert || hasKey))
    faults.add(
      "MESHCA_TLS",
      "is given together with MESHCA_TLS_CERT_FILE or MESHCA_TLS_KEY_FILE; give one or the other",
    );
  if (hasKey && !hasCert)
    faults.add("MESHCA_TLS_CERT_FILE", "must be given with MESHCA_TLS_KEY_FILE");
  if (hasCert && !hasKey)
    faults.add("MESHCA_TLS_KEY_FILE", "must be given with MESHCA_TLS_CERT_FILE");
  if (!isSelf && given.MESHCA_TLS_NAMES !== undefined)
    faults.add(
      "MESHCA_TLS_NAMES",
      "needs MESHCA_TLS=self: a certificate of a file has its own names",
    );
  if (given.MESHCA_PLAIN_HTTP !== undefined)
    faults.add("MESHCA_PLAIN_HTTP", "is given together with TLS; give one of them");
  if (given.MESHCA_TLS_CLIENT_CERT === "required" && ca === undefined)
    faults.add(
      "MESHCA_TLS_CLIENT_CERT",
      "can be required only with MESHCA_TLS_CLIENT_CA_FILE, which names their issuers",
    );
  if (!connectEnabled && (isSelf || ca === "self"))
    faults.add(
      isSelf ? "MESHCA_TLS" : "MESHCA_TLS_CLIENT_CA_FILE",
      'cannot be "self" while connect.enabled is false: there is no CA to issue the certificate',
    );
}

/** More would lengthen the chain that every client gets. */
const MAX_NAMES = 16;
/** RFC 1034 section 3.5, without names that could be taken for an IPv4 address. */
const DNS_NAME =
  /^(?=.{1,253}$)(?!.*\.\d+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;

/** The names of our own certificate: loopback, the hosts of this replica, and the given ones. */
function serverNames(
  { host, advertised }: Pick<Served, "host" | "advertised">,
  given: string | undefined,
  faults: Faults,
): ServerNames {
  const more = given === undefined ? [] : given.split(",").map((name) => name.trim().toLowerCase());
  const own = [
    ...(["0.0.0.0", "::"].includes(host) ? [] : [host.toLowerCase()]),
    ...(advertised === null ? [] : [advertised]),
  ];
  const dnsNames = new Set(["localhost"]);
  const addresses = new Map<string, Bytes>();
  let invalid: string | null = null;
  for (const name of ["127.0.0.1", "::1", ...own, ...more]) {
    const address = ipOctets(name);
    if (address !== null) addresses.set(address.join("."), address);
    else if (DNS_NAME.test(name)) dnsNames.add(name);
    else if (more.includes(name)) invalid ??= JSON.stringify(name.slice(0, 60));
  }
  if (more.length > MAX_NAMES || invalid !== null)
    faults.add(
      "MESHCA_TLS_NAMES",
      `must be at most ${MAX_NAMES} DNS names and IP addresses, separated by commas${invalid === null ? "" : `; ${invalid} is not one`}`,
    );
  return { dnsNames: [...dnsNames], ipAddresses: [...addresses.values()] };
}
