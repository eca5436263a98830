/**
 * The table of verifiers in docs/rotation.md, made from the one that `meshca verify --like` applies. Run
 * with bun, this file writes it.
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KEY_USAGE } from "../../src/core/x509/certificate.ts";
import { nginx, VERIFIERS } from "../../src/core/x509/verifier-table.ts";
import {
  type LeafUsage,
  maxCrossings,
  type Verifier,
  type VerifierRole,
} from "../../src/core/x509/verifiers.ts";
import { ROOT } from "../fixtures/root.ts";
import { table } from "./markdown.ts";

const PAGE = join(ROOT, "docs/rotation.md");
const [BEGIN, END] = ["<!-- verifiers -->", "<!-- /verifiers -->"];
/** With the name of its default in place of a depth. */
const ROWS: readonly Verifier[] = [...VERIFIERS, { ...nginx(1, "nginx"), title: "nginx" }];

/** The page as it is, and as it has to be. */
export function verifiersPage(): { readonly is: string; readonly must: string } {
  const is = readFileSync(PAGE, "utf8");
  const [before = "", rest = ""] = is.split(`${BEGIN}\n`);
  const after = rest.split(END)[1] ?? "";
  return { is, must: `${before}${BEGIN}\n\n${limits()}\n${others()}\n${END}${after}` };
}

const text = (bound: number | null): string => (bound === null ? "any" : grouped(bound));
const grouped = (number: number): string => String(number).replaceAll(/\B(?=(\d{3})+$)/g, ",");

const limits = (): string =>
  table(
    ["Verifier", "`--like`", "Crossings", "Sent", "Octets", "Source"],
    ROWS.map((row) => [
      row.title,
      `\`${row.name}\``,
      text(maxCrossings(row)),
      text(row.maxSent),
      grouped(row.maxBytes),
      row.source,
    ]),
  );

const others = (): string =>
  table(
    ["`--like`", "Refuses besides"],
    ROWS.map((row) => [`\`${row.name}\``, refused(row).join("; ") || "nothing"]),
  );

function refused(row: Verifier): string[] {
  const { refusedSigners, maxUnsorted, maxInterspersed, stopsAtRoot, caUsage } = row;
  return [
    ...refusedSigners.map((kind) => `signatures by a CA on ${kind}`),
    ...byRole(row, (role) => row.refusedLeafKeys[role].map((kind) => `leaves on ${kind}`)),
    ...byRole(row, (role) => usageTexts(row.leafUsage[role])),
    ...(caUsage === "ignored" ? [] : ["CA certificates without keyCertSign"]),
    ...(caUsage === "demanded" ? ["CA certificates without key usage"] : []),
    ...(row.nameConstraints === "refused" ? ["critical name constraints"] : []),
    ...(maxUnsorted === maxInterspersed
      ? orderText("chains out of order, or with other certificates among them", maxUnsorted)
      : [
          ...orderText("chains out of order", maxUnsorted),
          ...orderText("chains with other certificates among them", maxInterspersed),
        ]),
    ...(stopsAtRoot ? [] : ["chains of which it trusts a root, but not the one at the end"]),
  ];
}

const orderText = (what: string, most: number | null): string[] => {
  if (most === null) return [];
  return [most === 0 ? what : `${what}, of more than ${most} CA certificates`];
};

/** With the role, if the two differ. */
function byRole({ roles }: Verifier, textsOf: (role: VerifierRole) => readonly string[]): string[] {
  const all = roles.map((role) => ({ role, texts: textsOf(role) }));
  const isIn = (text: string) => all.every(({ texts }) => texts.includes(text));
  return [
    ...(all[0]?.texts.filter(isIn) ?? []),
    ...all.flatMap(({ role, texts }) =>
      texts.filter((text) => !isIn(text)).map((text) => `${text}, as a ${role}`),
    ),
  ];
}

const BITS = ["digitalSignature", "keyEncipherment"] as const;

function usageTexts({ rsa, ec }: LeafUsage): string[] {
  const lacking = (bits: number) =>
    `without ${BITS.filter((bit) => (bits & KEY_USAGE[bit]) !== 0).join(" and ")}`;
  if (rsa === ec) return rsa === 0 ? [] : [`leaves ${lacking(rsa)}`];
  return [`RSA leaves ${lacking(rsa)}`, `EC leaves ${lacking(ec)}`];
}

if (import.meta.main) writeFileSync(PAGE, verifiersPage().must);
