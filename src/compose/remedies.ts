/**
 * What an operator does about certificates that expire, have expired or are not renewed, and about a
 * Vault that does not answer: one text for the log, `/readyz` and the command line.
 * @module
 */

/** What has to be mended. */
export type Trouble =
  | "root expires"
  | "root expired"
  | "supplied root expires"
  | "followed root expires"
  | "issuer expires"
  | "issuer expired"
  | "intermediate overdue"
  | "intermediate expires"
  | "intermediate expired"
  | "server certificate expires"
  | "server certificate expired"
  | "fallback certificate"
  | "provider unavailable";

export interface Remedy {
  /** A command of meshca that mends it; null: it is mended elsewhere. */
  readonly command: string | null;
  /** What to do, in a sentence without its first capital. */
  readonly text: string;
}

export const REMEDIES: Readonly<Record<Trouble, Remedy>> = {
  "root expires": {
    command: "meshca rotate",
    text: "rotate it with meshca rotate (PUT /v1/connect/ca/rotate), or set RootAutoRotate in the CA's configuration",
  },
  "root expired": {
    command: "meshca recover",
    text: "no leaf can be signed; run meshca recover on a machine of the server, which does what meshca tls ca create and meshca connect ca set-config do",
  },
  "supplied root expires": {
    command: "meshca recover",
    text: "an operator or Vault made it, and it is not rotated by itself; make another one with meshca tls ca create and send it with meshca connect ca set-config, or rotate it in Vault",
  },
  "followed root expires": {
    command: null,
    text: "it is the primary datacenter's; rotate it there with meshca rotate, or with meshca recover if it has expired, and this datacenter follows",
  },
  "issuer expires": {
    command: "meshca rotate",
    text: "it should have been renewed at half of its lifetime; see the provider lines of /readyz for the reason, or run meshca rotate",
  },
  "issuer expired": {
    command: "meshca rotate",
    text: "no leaf can be signed; see the provider lines of /readyz for why it was not renewed, then run meshca rotate, or meshca recover if its Vault is lost",
  },
  "intermediate overdue": {
    command: "meshca doctor",
    text: "leaves are signed until then; the line primary of /readyz and meshca doctor have the reason, and it is renewed as soon as that is mended",
  },
  "intermediate expires": {
    command: "meshca doctor",
    text: "it should have been renewed at half of its life; no leaf outlives it, and none is signed after it; the line primary of /readyz and meshca doctor have the reason, and it is renewed as soon as that is mended",
  },
  "intermediate expired": {
    command: "meshca doctor",
    text: "no leaf can be signed; the line primary of /readyz and meshca doctor have why the primary datacenter does not renew it, and it is renewed as soon as that is mended",
  },
  "server certificate expires": {
    command: null,
    text: "replace the files of MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, or with MESHCA_TLS=self see /readyz why it was not renewed",
  },
  "server certificate expired": {
    command: null,
    text: "clients refuse this server; replace the files of MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, or with MESHCA_TLS=self see /readyz why it was not renewed; commands reach it by --server-pin with the fingerprint in tls-fingerprint of the data folder",
  },
  "fallback certificate": {
    command: null,
    text: "clients that verify the roots refuse this server until its CA can issue a certificate again; commands reach it by --server-pin with the fingerprint in tls-fingerprint of the data folder",
  },
  "provider unavailable": {
    command: "meshca recover",
    text: "start or unseal it (vault operator unseal, bao operator unseal); if it is lost, meshca recover moves the CA to the built-in provider",
  },
};
