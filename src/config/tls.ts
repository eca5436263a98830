/**
 * How the API is served beyond plain HTTP: which certificate is shown, and which ones are asked
 * for.
 * @module
 */
import * as v from "valibot";
import type { Bytes } from "../core/bytes.ts";
import type { ServerNames } from "../core/x509/profile.ts";
import { ipOctets } from "../net/ip.ts";

export interface TlsSettings {
  /** The certificate that is shown: a file's, or one of our own CA for these names. */
  readonly source:
    | { readonly kind: "files"; readonly certFile: string; readonly keyFile: string }
    | { readonly kind: "self"; readonly names: ServerNames };
  /**
   * Whom clients' certificates must come from: our own roots, those of a file, or null where none
   * is asked for.
   */
  readonly clientCa:
    | { readonly kind: "self" }
    | { readonly kind: "file"; readonly path: string }
    | null;
  readonly clientCertificate: "optional" | "required";
  readonly minVersion: "TLSv1.2" | "TLSv1.3";
}

const file = v.optional(v.pipe(v.string(), v.nonEmpty("must name a file")));

/** The part of the schema of all settings that TLS is. */
export const TLS_ENTRIES = {
  MESHCA_TLS: v.optional(
    v.picklist(["self"], "must be self; for a certificate of your own set MESHCA_TLS_CERT_FILE"),
  ),
  MESHCA_TLS_NAMES: v.optional(v.string()),
  MESHCA_TLS_CERT_FILE: file,
  MESHCA_TLS_KEY_FILE: file,
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
      "must be behind-proxy: that a proxy in front ends TLS is the one reason to serve plain HTTP",
    ),
  ),
};

export type TlsGiven = v.InferOutput<ReturnType<typeof v.object<typeof TLS_ENTRIES, undefined>>>;

type Fault = (field: string, message: string) => void;

/**
 * What is given beside what: a setting of the environment stands for a choice that the file may
 * have made otherwise.
 */
export function preferEnvironment(
  file: Readonly<Record<string, string>>,
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> {
  const dropped: readonly string[] =
    environment.MESHCA_TLS !== undefined
      ? ["MESHCA_TLS_CERT_FILE", "MESHCA_TLS_KEY_FILE"]
      : environment.MESHCA_TLS_CERT_FILE !== undefined
        ? ["MESHCA_TLS"]
        : [];
  return Object.fromEntries(Object.entries(file).filter(([name]) => !dropped.includes(name)));
}

export interface Served {
  /** What is listened on. */
  readonly host: string;
  readonly connectEnabled: boolean;
  /** Whether the file gives a port for HTTPS. */
  readonly https: boolean;
}

/** Puts the settings together. @returns null for plain HTTP */
export function tlsSettings(
  given: TlsGiven,
  { host, connectEnabled, https }: Served,
  fault: Fault,
): TlsSettings | null {
  const {
    MESHCA_TLS: self,
    MESHCA_TLS_CERT_FILE: certFile,
    MESHCA_TLS_KEY_FILE: keyFile,
    MESHCA_TLS_CLIENT_CA_FILE: ca,
  } = given;
  const files = certFile !== undefined || keyFile !== undefined;
  const names = serverNames(host, given.MESHCA_TLS_NAMES, fault);
  if (self === undefined && !files) {
    for (const name of ["MESHCA_TLS_CLIENT_CA_FILE", "MESHCA_TLS_NAMES"] as const)
      if (given[name] !== undefined)
        fault(
          name,
          "needs TLS: set MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, or MESHCA_TLS=self",
        );
    if (given.MESHCA_TLS_CLIENT_CERT === "required") fault("MESHCA_TLS_CLIENT_CERT", "needs TLS");
    if (https)
      fault(
        "ports.https",
        'needs a certificate: tls.https.cert_file and tls.https.key_file, or "tls": "self"',
      );
    return null;
  }
  if (self !== undefined && files)
    fault(
      "MESHCA_TLS",
      "is given together with MESHCA_TLS_CERT_FILE or MESHCA_TLS_KEY_FILE; give one or the other",
    );
  if (files && certFile === undefined)
    fault("MESHCA_TLS_CERT_FILE", "must be given with MESHCA_TLS_KEY_FILE");
  if (files && keyFile === undefined)
    fault("MESHCA_TLS_KEY_FILE", "must be given with MESHCA_TLS_CERT_FILE");
  if (self === undefined && given.MESHCA_TLS_NAMES !== undefined)
    fault("MESHCA_TLS_NAMES", "needs MESHCA_TLS=self: a certificate of a file has its own names");
  if (given.MESHCA_PLAIN_HTTP !== undefined)
    fault("MESHCA_PLAIN_HTTP", "is given together with TLS; give one of them");
  if (given.MESHCA_TLS_CLIENT_CERT === "required" && ca === undefined)
    fault(
      "MESHCA_TLS_CLIENT_CERT",
      "can be required only with MESHCA_TLS_CLIENT_CA_FILE, which says whose they must be",
    );
  if (!connectEnabled && (self !== undefined || ca === "self"))
    fault(
      self === undefined ? "MESHCA_TLS_CLIENT_CA_FILE" : "MESHCA_TLS",
      "cannot be self where connect is disabled: there is no CA",
    );
  return {
    source:
      certFile === undefined || keyFile === undefined
        ? { kind: "self", names: names ?? { dnsNames: [], ipAddresses: [] } }
        : { kind: "files", certFile, keyFile },
    clientCa:
      ca === undefined ? null : ca === "self" ? { kind: "self" } : { kind: "file", path: ca },
    clientCertificate: given.MESHCA_TLS_CLIENT_CERT,
    minVersion: given.MESHCA_TLS_MIN_VERSION === "1.3" ? "TLSv1.3" : "TLSv1.2",
  };
}

/** More would make the chain that every client gets longer for nothing. */
const MAX_NAMES = 16;
/** RFC 1034 §3.5, without a name that could be taken for an address. */
const DNS_NAME =
  /^(?=.{1,253}$)(?!.*\.\d+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;

/** The names of our own certificate: loopback, what is listened on, and those given. */
function serverNames(host: string, given: string | undefined, fault: Fault): ServerNames | null {
  const more = given === undefined ? [] : given.split(",").map((name) => name.trim().toLowerCase());
  const dnsNames = new Set(["localhost"]);
  const addresses = new Map<string, Bytes>();
  for (const name of [
    "127.0.0.1",
    "::1",
    ...(ANY.includes(host) ? [] : [host.toLowerCase()]),
    ...more,
  ]) {
    const address = ipOctets(name);
    if (address !== null) addresses.set(address.join("."), address);
    else if (DNS_NAME.test(name)) dnsNames.add(name);
    else if (more.includes(name)) return deny(fault);
  }
  return more.length > MAX_NAMES
    ? deny(fault)
    : { dnsNames: [...dnsNames], ipAddresses: [...addresses.values()] };
}

const ANY = ["0.0.0.0", "::"];

function deny(fault: Fault): null {
  fault(
    "MESHCA_TLS_NAMES",
    `must be at most ${MAX_NAMES} DNS names and IP addresses, separated by commas`,
  );
  return null;
}
