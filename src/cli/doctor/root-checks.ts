/**
 * Checks of the active root, the issuer, and the chain that leaves are sent with.
 * @module
 */
import { colonHex, equal } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import { type Certificate, readCertificatePem } from "../../core/x509/certificate.ts";
import { VERIFIERS } from "../../core/x509/verifier-table.ts";
import { refusals } from "../../core/x509/verifiers.ts";
import type { RootValue } from "../commands/connect/roots.ts";
import { lifeText } from "../table.ts";
import { severityOf } from "./contact-checks.ts";
import { type Facts, remedyOf } from "./look.ts";
import {
  type Finding,
  found,
  ok,
  type Result,
  type Severity,
  skipped,
  unchecked,
} from "./types.ts";

export function rootExpiry(facts: Facts): Result {
  const id = "root.expiry";
  const { roots, readiness, now } = facts;
  if ("error" in roots) return unchecked(id, roots.error);
  const { ActiveRootID, Roots } = roots.value;
  const active = Roots.find(({ ID }) => ID === ActiveRootID);
  const details = "value" in readiness ? readiness.value.details : null;
  const finding = (severity: Severity, what: string): Finding => ({
    ...{ severity, what },
    why: "When the root expires, every leaf and every verification ends with it, and clients that trust only this root cannot learn of a new one",
    fix: remedyOf(facts, "the root") ?? (/ left$/.test(what) ? "meshca rotate" : "meshca recover"),
  });
  // An expired root leaves the listing.
  const expires = new Date(details?.root_expires?.[0] ?? Number.NaN);
  if (active === undefined)
    return found(id, "the active root is not in the listing", [
      finding(
        "critical",
        `The active root ${ActiveRootID} has left the list of trusted roots${Number.isNaN(expires.getTime()) ? "" : `: ${lifeText(expires, now)}`}`,
      ),
    ]);
  const notAfter = new Date(active.NotAfter);
  const life = lifeText(notAfter, now);
  const severity = severityOf({ notBefore: new Date(active.NotBefore), notAfter }, now);
  const findings =
    severity === null ? [] : [finding(severity, `The active root ${active.ID}: ${life}`)];
  // `not at <time>: <reason>`
  for (const text of details?.root_auto_rotate ?? [])
    if (text.startsWith("not "))
      findings.push({
        severity: "warning",
        what: `RootAutoRotate does not rotate the root: ${text}`,
        why: "Who relies on it learns that the root expires when it has",
        fix: "meshca rotate in time, or what the reason says",
      });
  return found(id, life, findings);
}

export function issuerExpiry(facts: Facts): Result {
  const id = "issuer.expiry";
  const { datacenter, now } = facts;
  if ("value" in datacenter && datacenter.value.Primary !== null)
    return skipped(id, "it is an intermediate of the primary datacenter (intermediate.renewal)");
  const active = activeOf(facts);
  if (typeof active === "string") return unchecked(id, active);
  const { root, chain } = active;
  const [anchor] = chainOf({ ...root, IntermediateCerts: [root.RootCert] }) ?? [];
  if (anchor === undefined) return unchecked(id, "the active root cannot be read");
  if (root.SigningKeyID === "") return unchecked(id, "the server does not name the issuer");
  // Cross-signed certificates of the root have its subject.
  const issuer = chain.find(
    ({ subjectKeyId, subject }) =>
      subjectKeyId !== null &&
      colonHex(subjectKeyId) === root.SigningKeyID &&
      !equal(subject, anchor.subject),
  );
  if (issuer === undefined) return skipped(id, "the root signs leaves itself");
  const life = lifeText(issuer.notAfter, now);
  const severity = severityOf(issuer, now);
  if (severity === null) return ok(id, life);
  return found(id, life, [
    {
      severity,
      what: `The issuer ${issuer.id}: ${life}`,
      why: "It should have been renewed at half of its life; no leaf outlives it, and none is signed after it",
      fix:
        remedyOf(facts, "the issuer") ??
        "meshca rotate, unless the reason in meshca status or the server's log can be mended",
    },
  ]);
}

/** The issuer and the cross-signed certificates; null if one cannot be read. */
function chainOf(root: RootValue): Certificate[] | null {
  try {
    return (root.IntermediateCerts ?? []).map(readCertificatePem);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

/** The active root, and all roots in PEM; a reason if it cannot be found or read. */
function activeOf({
  roots,
}: Facts): { root: RootValue; chain: Certificate[]; published: string[] } | string {
  if ("error" in roots) return roots.error;
  const { ActiveRootID, Roots } = roots.value;
  const root = Roots.find(({ ID }) => ID === ActiveRootID);
  if (root === undefined) return "the active root is not in the listing (root.expiry)";
  const chain = chainOf(root);
  return chain === null
    ? "a certificate in the listing cannot be read"
    : { root, chain, published: Roots.map(({ RootCert }) => RootCert) };
}

export function chainLimits(facts: Facts): Result {
  const id = "chain.limits";
  const active = activeOf(facts);
  if (typeof active === "string") return unchecked(id, active);
  const { root, chain, published } = active;
  const [anchor] = chainOf({ ...root, IntermediateCerts: [root.RootCert] }) ?? [];
  if (anchor === undefined) return unchecked(id, "the active root cannot be read");
  const roots = chainOf({ ...root, IntermediateCerts: published }) ?? [anchor];
  // In place of a leaf, which is not larger than the largest of these.
  const leaf = { ...(chain.toSorted((a, b) => b.der.length - a.der.length)[0] ?? anchor) };
  const sent = [leaf, ...chain];
  const faults = refusals(VERIFIERS, { path: [...sent, anchor], sent, roots }).flatMap(
    ({ reasons }) => reasons,
  );
  return found(
    id,
    `${sent.length} sent with a leaf, within the limits of ${VERIFIERS.map(({ name }) => name).join(", ")}`,
    [...new Set(faults)].map((what) => ({
      severity: "warning",
      what: what,
      why: "Peers on this TLS library refuse the chain that leaves are sent with",
      fix: "Let retired roots be removed before the next rotation (meshca roots), or lower MESHCA_MAX_CHAIN_LENGTH; meshca verify --like shows the limits",
    })),
  );
}
