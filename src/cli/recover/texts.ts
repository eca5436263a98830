/**
 * What `meshca recover` says at each step.
 * @module
 */
import { hex, sha256 } from "../../core/bytes.ts";
import type { CaKeySpec } from "../../core/x509/keys.ts";
import { lifeText } from "../table.ts";
import type { Terminal } from "../terminal.ts";
import { BUILT_IN } from "./configuration.ts";
import { OWN_FILES, type RecoveryRoot } from "./root-files.ts";
import type { Situation } from "./situation.ts";

/** What was found at the server. */
export function situationText(
  situation: Situation,
  verification: string,
  now: Date,
  terminal: Terminal,
): string {
  const { server, trustDomain, provider, roots, reason, providerNotes } = situation;
  const rows: (readonly [name: string, value: string])[] = [
    ["server", `${server}, ${verification}`],
    ["trust domain", trustDomain],
    ["provider", provider],
    ["leaves", reason === null ? "can be signed" : `cannot be signed: ${reason}`],
    ...roots.map(({ id, state, notAfter }): [string, string] => [
      `${state} root`,
      `${id}, ${lifeText(new Date(notAfter), now)}`,
    ]),
    ...(roots.length === 0 ? [["roots", "none that is valid"] as const] : []),
    ...providerNotes.map((note): [string, string] => ["provider", note]),
  ];
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return rows
    .map(([name, value]) => `${terminal.style("bold", name.padEnd(width))}${value}\n`)
    .join("");
}

/** The first step, in which files are made. */
export function makeText(
  { trustDomain }: Situation,
  { type, bits }: CaKeySpec,
  days: number,
  keepsKey: boolean,
): string {
  return [
    "",
    `Step 1 of 2: create a root for the trust domain ${trustDomain}`,
    `  ${OWN_FILES.certificate}      its certificate, valid for ${days} ${days === 1 ? "day" : "days"}`,
    `  ${OWN_FILES.key}  its key (${type} ${bits}), ${keepsKey ? "which stays" : "deleted as soon as the server has taken it"}`,
    "",
  ].join("\n");
}

/** The second step, in which the server is changed. */
export function sendText(
  situation: Situation,
  root: RecoveryRoot,
  dropped: readonly string[],
  force: boolean,
): string {
  const { server, provider, roots } = situation;
  const valid = roots.filter(({ state }) => state !== "expired").map(({ id }) => id);
  const lines = [
    "",
    `Step 2 of 2: send the root ${root.certificate.id} and its key to ${server}`,
    "  All services get new leaves under it; every other setting of the CA stays.",
  ];
  if (provider !== BUILT_IN)
    lines.push(
      `  The built-in provider takes the place of ${provider}. Lost by that: the key of the CA is no`,
      `  longer kept in ${provider} but by meshca, encrypted, in its store.`,
      `  Left in ${provider}: mounts, keys and certificates there, which nothing uses any more.`,
    );
  if (dropped.length > 0)
    lines.push(
      `  Settings of ${provider} that are dropped; note them for the way back:`,
      `    ${dropped.join(", ")}`,
    );
  if (valid.length > 0)
    lines.push(
      force
        ? "  A root that is still valid is abandoned if it cannot cross-sign the new one: services that"
        : "  A root that is still valid cross-signs the new one, so that services that trust only it",
      force
        ? `  trust only it refuse new leaves: ${valid.join(", ")}`
        : `  accept new leaves: ${valid.join(", ")}`,
    );
  return `${lines.join("\n")}\n`;
}

/** What there is to do after a recovery. */
export function doneText(root: RecoveryRoot, isActive: boolean): string {
  const { certificate, files } = root;
  const end = certificate.notAfter.toISOString();
  return [
    isActive
      ? `The active root is ${certificate.id}, valid until ${end}`
      : `The server has taken the root ${certificate.id}, valid until ${end}, and does not list it as the active one yet; look with meshca roots`,
    "",
    "Agents get new leaves by themselves; those whose leaves have expired log in again. Agents that",
    "verify the servers by roots of the mesh that have all expired cannot know the new root: give them",
    `  ${files.certificate} as their --ca-file, or`,
    `  --ca-pin ${pinOf(root)}`,
    "",
    "This root is not rotated by itself. For a root that the CA makes itself, and rotates itself with",
    "RootAutoRotate, remove PrivateKey and RootCert from the output of meshca connect ca get-config,",
    "and give the rest to meshca connect ca set-config.",
    "",
  ].join("\n");
}

/** The pin of a root, for agents. */
export const pinOf = ({ certificate }: RecoveryRoot): string =>
  `sha256:${hex(sha256(certificate.der))}`;
