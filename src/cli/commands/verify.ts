/**
 * `meshca verify`: whether a leaf verifies under roots, and if not, at which certificate and why.
 * @module
 */

import { ClientError } from "../../client/errors.ts";
import { findTrustPath } from "../../client/spiffe/path.ts";
import { svidId } from "../../client/spiffe/verify-peer.ts";
import { equal } from "../../core/bytes.ts";
import { RequestError } from "../../core/errors.ts";
import { parseSpiffeId } from "../../core/spiffe/id.ts";
import type { Certificate } from "../../core/x509/certificate.ts";
import { OID } from "../../core/x509/oids.ts";
import { VERIFIERS, verifierOf } from "../../core/x509/verifier-table.ts";
import { type Verifier, verifierFaults } from "../../core/x509/verifiers.ts";
import { processClock } from "../../entry/system.ts";
import type { Command } from "../command.ts";
import { explain, type Obstacle } from "../inspect/explain.ts";
import { anchorsOf, anchorsOfServer, chainOf } from "../inspect/material.ts";
import { subjectText } from "../inspect/texts.ts";
import { EXIT, Failure, usage } from "../output.ts";

export interface Verdict {
  readonly verifies: boolean;
  /** Null if the leaf has none that is valid. */
  readonly spiffeId: string | null;
  /** Subjects, the leaf first, the root last; empty if it does not verify. */
  readonly path: readonly string[];
  /** Where the search for a path ended; null if it did not. */
  readonly obstacle: Obstacle | null;
  /** What is wrong with the leaf as an SVID, or what verifiers have against the path. */
  readonly faults: readonly string[];
}

export const verify: Command = {
  name: "verify",
  summary: "verify a leaf under roots, and explain what is wrong",
  details: `The leaf comes first in its file (- for the standard input); the certificates after it are its chain. It may be HOST:PORT, too: what a TLS server shows. --like applies the limits that are known of a verifier: ${VERIFIERS.map(({ name }) => name).join(", ")}, or nginx:N with ssl_verify_depth N (docs/rotation.md has the table).`,
  arguments: "<leaf>",
  flags: [
    {
      ...{ name: "roots", value: "FILE", file: true },
      help: "roots in PEM, or the URL of a server, which is verified (those of the server)",
    },
    {
      ...{ name: "like", value: "VERIFIER", many: true },
      choices: VERIFIERS.map(({ name }) => name),
      help: "applies the limits of this verifier too; may be repeated",
    },
  ],
  example: "meshca verify web.pem --roots roots.pem --like nginx:8 --like rustls",
  ...{ connects: true, json: true, files: true },
  async run({ flags, args: [path = ""], print, terminal, connect, connectTo }) {
    const from = flags.text("roots");
    if (from === "") throw usage("--roots is empty: give a file in PEM, or the URL of a server");
    const verifiers = flags.all("like").map((name) => {
      const found = verifierOf(name);
      if (found === null)
        throw usage(
          `--like ${JSON.stringify(name)} is not one of ${VERIFIERS.map((one) => one.name).join(", ")}, nginx:N`,
        );
      return found;
    });
    if (path === "-" && from === "-")
      throw usage("The leaf and the roots cannot both come from the standard input");
    const sent = await chainOf(path, terminal);
    const roots =
      from === null ? await anchorsOfServer(connect()) : await anchorsOf(from, terminal, connectTo);
    if (!roots.some(({ isCa, issuer, subject }) => isCa && equal(issuer, subject)))
      throw new Failure(
        EXIT.data,
        `${from ?? "The listing of the server"} has no root: no CA certificate that is its own issuer`,
      );
    const verdict = await judge(sent, roots, verifiers, processClock.now());
    print(verdict, verdictText);
    return verdict.verifies && verdict.faults.length === 0 ? 0 : EXIT.data;
  },
};

/**
 * @param sent what a peer sends, the leaf first
 * @param anchors of a file or a listing: its self-issued CAs are the roots. Others are ignored, as
 * a verifier of TLS has only what the peer sends.
 */
export async function judge(
  sent: readonly Certificate[],
  anchors: readonly Certificate[],
  verifiers: readonly Verifier[],
  now: Date,
): Promise<Verdict> {
  const [leaf, ...intermediates] = sent as [Certificate, ...Certificate[]];
  const roots = anchors.filter(({ isCa, issuer, subject }) => isCa && equal(issuer, subject));
  const path = await findTrustPath(leaf, intermediates, roots, now);
  const identity = identityOf(leaf);
  return {
    verifies: path !== null,
    spiffeId: identity.id,
    path: (path ?? []).map(({ subject, uris: [uri] }) => uri ?? subjectText(subject)),
    obstacle: path === null ? await explain(leaf, intermediates, roots, now) : null,
    faults: [
      ...(identity.fault === null ? [] : [identity.fault]),
      ...(path === null ? [] : purposeFaults(path)),
      ...(path === null
        ? []
        : verifiers.flatMap((one) => verifierFaults(one, { path, sent, roots }))),
    ],
  };
}

/**
 * Why no verifier of TLS takes a path, neither for a server nor for a client: a CA certificate in place
 * of the leaf, or purposes that exclude each other (RFC 5280 §4.2.1.12; the purposes of a CA bind what
 * is below it in OpenSSL, Go, the JDK and rustls).
 */
function purposeFaults(path: readonly Certificate[]): string[] {
  const [leaf] = path as [Certificate, ...Certificate[]];
  if (leaf.isCa) return ["The leaf is a CA certificate, which TLS is not spoken with"];
  const purposes = [OID.serverAuth, OID.clientAuth];
  const isFor = ({ extKeyUsage }: Certificate, purpose: string) =>
    extKeyUsage === null || extKeyUsage.includes(purpose);
  if (purposes.some((purpose) => path.every((one) => isFor(one, purpose)))) return [];
  const other = path.find((one) => !purposes.some((purpose) => isFor(one, purpose)));
  if (other === undefined)
    return ["A CA certificate of the path is not for the purposes that the leaf is for"];
  const name = other === leaf ? "The leaf" : `The CA certificate ${subjectText(other.subject)}`;
  return [`${name} has an extended key usage without serverAuth and clientAuth, which TLS needs`];
}

/** The SPIFFE ID of a leaf of any trust domain, and what is wrong with it; a leaf need not have one. */
function identityOf(leaf: Certificate): { id: string | null; fault: string | null } {
  const [uri] = leaf.uris;
  if (uri === undefined) return { id: null, fault: null };
  try {
    return { id: svidId(leaf, parseSpiffeId(uri).trustDomain), fault: null };
  } catch (error) {
    if (error instanceof ClientError) return { id: null, fault: error.message };
    if (!(error instanceof RequestError)) throw error;
    return { id: null, fault: `The URI of the leaf is no SPIFFE ID: ${error.message}` };
  }
}

function verdictText({ verifies, path, obstacle, faults }: Verdict): string {
  const lines = verifies
    ? ["The leaf verifies:", ...path.map((name, i) => `${"  ".repeat(i + 1)}${name}`)]
    : [
        "The leaf does not verify:",
        `  ${obstacle?.reason ?? "no path was found"}`,
        ...(obstacle === null ? [] : [`  certificate ${obstacle.id}`]),
      ];
  return [...lines, ...faults].map((line) => `${line}\n`).join("");
}
