/**
 * Checks of what this machine sees: whether the server answers, its TLS, the clocks, the token.
 * @module
 */

import { hex, sha256 } from "../../core/bytes.ts";
import { warningDays } from "../../core/ca/expiry.ts";
import { FormatError } from "../../core/errors.ts";
import { readPem } from "../../core/pem.ts";
import { readCertificate } from "../../core/x509/certificate.ts";
import { isLoopback } from "../../net/server-address.ts";
import { lifeText, spanText } from "../table.ts";
import { type Facts, reasonOf, remedyOf } from "./look.ts";
import {
  type Finding,
  found,
  ok,
  type Result,
  type Severity,
  skipped,
  unchecked,
} from "./types.ts";

/** A difference of clocks that NTP does not leave. */
export const SKEW_MS = 10_000;
/** A leaf is valid from a minute before it was signed (LEAF_BACKDATE_MS of core/x509/leaf.ts). */
export const BACKDATE_MS = 60_000;

export function contactChecks(facts: Facts): Result[] {
  return [
    reachable(facts),
    tls(facts),
    api(facts),
    tlsExpiry(facts),
    anchors(facts),
    token(facts),
    clientClock(facts),
  ];
}

function reachable({ contact, options }: Facts): Result {
  if (contact.reached !== "network") return ok("server.reachable", `${options.name} answers`);
  return found("server.reachable", contact.reason, [
    {
      severity: "critical",
      what: contact.reason,
      why: "No workload that asks this server gets a leaf or the roots",
      fix: "Start the server, or correct the address: systemctl status meshca; journalctl -u meshca",
    },
  ]);
}

function tls({ contact, options, peer }: Facts): Result {
  const { url, socketPath, verify, pin, token, name } = options;
  if (contact.reached === "network")
    return unchecked("server.tls", "the server does not answer (server.reachable)");
  if (socketPath !== null) return skipped("server.tls", "a socket on this machine");
  if (url.protocol === "http:") {
    if (isLoopback(url)) return skipped("server.tls", "plain HTTP on this machine");
    return found("server.tls", "plain HTTP", [
      {
        severity: token === null ? "warning" : "critical",
        what: `${name} is called without TLS${token === null ? "" : ", and the token is sent with it"}`,
        why: "Who is on the way can read the token and put other roots into the answers",
        fix: "Call an https:// address (--http-addr); serve TLS with MESHCA_TLS=self or MESHCA_TLS_CERT_FILE",
      },
    ]);
  }
  if (contact.reached === "tls") {
    const seen =
      "value" in peer && peer.value !== null ? `sha256:${hex(sha256(peer.value.leaf))}` : null;
    return found("server.tls", contact.reason, [
      {
        severity: "critical",
        what: contact.reason,
        why: "Clients that verify the server cannot reach it, and nothing else was checked",
        fix:
          seen === null
            ? "meshca inspect HOST:PORT"
            : `meshca doctor --http-addr ${name} --server-pin ${seen}, after comparing it with the fingerprint in the server's log`,
      },
    ]);
  }
  if (!verify && pin === null)
    return found("server.tls", "not verified", [
      {
        severity: "warning",
        what: `The certificate of ${name} is not verified (HTTP_SSL_VERIFY=false)`,
        why: "Another server could take its place, and read the token",
        fix: "Unset CONSUL_HTTP_SSL_VERIFY and MESHCA_HTTP_SSL_VERIFY, and give --ca-file or --server-pin",
      },
    ]);
  return ok("server.tls", pin === null ? "verified" : "verified by the pin");
}

function api({ contact }: Facts): Result {
  if (contact.reached === "network" || contact.reached === "tls")
    return unchecked("server.api", reasonOf(contact));
  if (contact.reached === "answered") return ok("server.api", "GET /healthz answers ok");
  return found("server.api", contact.reason, [
    {
      severity: "critical",
      what: contact.reason,
      why: "Another program listens there, or a proxy answers in the place of the server",
      fix: "Correct the address: --http-addr, MESHCA_HTTP_ADDR",
    },
  ]);
}

function tlsExpiry(facts: Facts): Result {
  const id = "server.tls_expiry";
  const { peer, readiness, now } = facts;
  if ("error" in peer) return unchecked(id, peer.error);
  if (peer.value === null) return skipped(id, "no TLS");
  const fallback = "value" in readiness ? (readiness.value.details?.tls ?? []) : [];
  if (fallback.length > 0)
    return found(
      id,
      "the fallback certificate",
      fallback.map((text) => ({
        severity: "critical",
        what: `The server serves TLS with its ${text}`,
        why: "Clients that verify the roots refuse this server",
        fix: remedyOf(facts, "TLS is served") ?? "Mend the reason, which the server's log has too",
      })),
    );
  const leaf = read(peer.value.leaf);
  if (leaf === null) return unchecked(id, "the server's certificate cannot be read");
  const severity = severityOf(leaf, now);
  const life = lifeText(leaf.notAfter, now);
  if (severity === null) return ok(id, life);
  return found(id, life, [
    {
      severity,
      what: `The TLS certificate of the server: ${life}`,
      why: "Once it has expired, no client that verifies the server reaches it",
      fix:
        remedyOf(facts, "the server certificate") ??
        "Replace the files of MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, which are read again by SIGHUP; with MESHCA_TLS=self see the server's log for why it was not renewed",
    },
  ]);
}

/** Whether something that expires has to be replaced, as the server warns. */
export function severityOf(
  validity: { readonly notBefore: Date; readonly notAfter: Date },
  now: Date,
): Severity | null {
  const days = warningDays(validity, now);
  return days === null ? null : days > 7 ? "warning" : "critical";
}

function anchors({ options: { anchorsPem }, now }: Facts): Result {
  const id = "server.anchors";
  if (anchorsPem === null) return skipped(id, "no CA file is given");
  const certificates = readPem(anchorsPem).flatMap(({ bytes }) => read(bytes) ?? []);
  if (certificates.length === 0) return unchecked(id, "no certificate in the CA file can be read");
  // Further ones may be left over from before a rotation.
  const last = certificates.reduce((a, b) => (a.notAfter < b.notAfter ? b : a));
  const severity = severityOf(last, now);
  const life = lifeText(last.notAfter, now);
  if (severity === null) return ok(id, life);
  return found(id, life, [
    {
      severity,
      what: `The certificate in the CA file of this machine that lives longest: ${life}`,
      why: "Without a valid one the server cannot be verified, and a new root cannot be fetched",
      fix: "meshca roots --pem > FILE, and give FILE to every client that has the old one",
    },
  ]);
}

function read(der: Uint8Array) {
  try {
    return readCertificate(der);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

function token({ contact, options, tokenRefusal, readiness, diagnosis }: Facts): Result {
  const id = "server.token";
  if (contact.reached !== "answered") return unchecked(id, reasonOf(contact));
  if (tokenRefusal !== null) return unchecked(id, tokenRefusal);
  if ("value" in diagnosis) return ok(id, "it has operator:read");
  if ("value" in readiness && readiness.value.details === null)
    return unchecked(
      id,
      options.token === null
        ? "no token was given: give one with operator:read by --token-file"
        : "the token lacks operator:read: give another one by --token-file",
    );
  return unchecked(id, diagnosis.error);
}

function clientClock({ clock, diagnosis, now }: Facts): Result {
  const id = "clock.client";
  if ("error" in clock) return unchecked(id, clock.error);
  const { offsetMs, errorMs } = clock.value;
  const beyond = Math.abs(offsetMs) - errorMs;
  const text = `the server's clock is ${spanText(Math.abs(offsetMs))} ${offsetMs < 0 ? "behind" : "ahead of"} this machine's`;
  if (beyond <= SKEW_MS) return ok(id, `within ${SKEW_MS / 1000} s of the server's`);
  const at = "value" in diagnosis ? diagnosis.value.Time : now.toISOString();
  const finding: Finding = {
    severity: beyond > BACKDATE_MS ? "critical" : "warning",
    what: `T${text.slice(1)}`,
    why: `A leaf is valid from ${BACKDATE_MS / 1000} s before it is signed: a clock that is further behind refuses new leaves, one that is ahead ends them early`,
    fix: `Set the clock that is wrong: timedatectl set-ntp true (the server answered at ${at})`,
  };
  return found(id, text, [finding]);
}
