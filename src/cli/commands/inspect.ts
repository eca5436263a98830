/**
 * `meshca inspect`: explains certificates, chains, requests, bundles and credential folders, and what a
 * TLS server shows.
 * @module
 */

import { equal } from "../../core/bytes.ts";
import type { Certificate } from "../../core/x509/certificate.ts";
import { keyIdsOf } from "../../core/x509/keys.ts";
import { caFaults } from "../../core/x509/usable-ca.ts";
import { processClock } from "../../entry/system.ts";
import type { Command } from "../command.ts";
import { type Found, readTarget } from "../inspect/material.ts";
import { kindOf, lifeFault, namesOf, serialText, subjectText } from "../inspect/texts.ts";
import { EXIT } from "../output.ts";
import { lifeText } from "../table.ts";
import type { Terminal } from "../terminal.ts";

/** Fields of what was found, in the order in which they are shown, and what is wrong. */
export interface Explained {
  readonly where: string;
  readonly kind: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly problems: readonly string[];
}

export const inspect: Command = {
  name: "inspect",
  summary: "explain certificates, requests, keys, and what a TLS server shows",
  details:
    "A target is a file in PEM, - for the standard input, a credential folder of the agent, the URL of a roots listing or of PEM, or HOST:PORT, to which TLS is spoken. Nothing of it is trusted or verified: meshca verify does that.",
  arguments: "<target>",
  example: "meshca inspect 127.0.0.1:8443",
  ...{ json: true, files: true },
  async run({ args: [target = ""], print, terminal }) {
    const now = processClock.now();
    const found = await readTarget(target, terminal);
    const explained = found.map((one) => explainOne(one, found, now));
    print(explained, (all) => all.map((one) => blockOf(one, terminal)).join("\n"));
    return explained.some(({ problems }) => problems.length > 0) ? EXIT.data : 0;
  },
};

/** @param all what was found, among which a key has its certificate */
function explainOne(found: Found, all: readonly Found[], now: Date): Explained {
  const { where } = found;
  if (found.kind === "unreadable")
    return {
      where,
      kind: found.fields === undefined ? "unknown" : "certificate",
      fields: found.fields ?? {},
      problems: [`It ${found.reason}`],
    };
  if (found.kind === "key") return explainKey(found, all);
  if (found.kind === "request") {
    const { request, isProven } = found;
    const { uri, dnsNames, ipAddresses, key } = request;
    const uris = uri === null ? [] : [uri];
    return {
      where,
      kind: "certificate request",
      fields: {
        names: namesOf({ uris, dnsNames, ipAddresses }).join(", ") || "none",
        key: `${key.type} ${key.bits}`,
        "key id": keyIdsOf(key.spki)[0] ?? "",
      },
      problems: isProven ? [] : ["Its signature is not that of its key"],
    };
  }
  return explainCertificate(found.certificate, where, now);
}

function explainKey(
  { where, label, spki }: Found & { readonly kind: "key" },
  all: readonly Found[],
): Explained {
  const keys = all.flatMap((one) => {
    if (one.kind === "certificate") return [{ where: one.where, spki: one.certificate.key.spki }];
    return one.kind === "request" ? [{ where: one.where, spki: one.request.key.spki }] : [];
  });
  const own = spki === null ? undefined : keys.find((one) => equal(one.spki, spki));
  return {
    where,
    kind: "private key",
    fields: {
      form: label,
      key: "not shown",
      ...(spki === null ? {} : { "key id": keyIdsOf(spki)[0] ?? "" }),
      ...(own === undefined ? {} : { of: own.where }),
    },
    problems:
      spki !== null && own === undefined && keys.length > 0
        ? ["It is not the key of a certificate or request here"]
        : [],
  };
}

function explainCertificate(certificate: Certificate, where: string, now: Date): Explained {
  const { subject, issuer, key, notBefore, notAfter, serial, id } = certificate;
  const late = lifeFault(certificate, now);
  const [, trustDomain = ""] = /^spiffe:\/\/([^/]+)$/.exec(certificate.uris[0] ?? "") ?? [];
  const faults =
    kindOf(certificate) === "root" && trustDomain !== ""
      ? caFaults(certificate, { trustDomain, issuer: certificate, casBelow: 0 })
      : [];
  return {
    where,
    kind: kindOf(certificate),
    fields: {
      subject: subjectText(subject),
      names: namesOf(certificate).join(", ") || "none",
      issuer: subjectText(issuer),
      key: `${key.type} ${key.bits}`,
      "key id": keyIdsOf(key.spki)[0] ?? "",
      serial: serialText(serial),
      "valid from": notBefore.toISOString(),
      "valid until": notAfter.toISOString(),
      life: lifeText(notAfter, now),
      id,
    },
    problems: [
      ...(late === null ? [] : [`It ${late}`]),
      ...faults.map((fault) => `As a root of a mesh it ${fault}`),
    ],
  };
}

function blockOf({ where, kind, fields, problems }: Explained, terminal: Terminal): string {
  const width = Math.max(0, ...Object.keys(fields).map((name) => name.length)) + 2;
  const lines = [
    `${terminal.style("bold", where)}: ${kind}`,
    ...Object.entries(fields).map(([name, value]) => `  ${`${name}:`.padEnd(width)}${value}`),
    ...problems.map((problem) => `  ${terminal.style("red", problem)}`),
  ];
  return `${lines.join("\n")}\n`;
}
