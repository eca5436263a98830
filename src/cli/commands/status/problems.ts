/**
 * What is wrong with a server, and the command that mends it.
 * @module
 */
import { lifeText } from "../../table.ts";
import type { Problem, StatusFacts } from "./types.ts";

const DAY_MS = 86_400_000;
/** The first day of the server's own warnings (core/ca/expiry.ts). */
const WARNING_MS = 30 * DAY_MS;

/** It explains what mends a problem that no command does. */
const DOCTOR = "doctor";

/** @param has whether this program has a command */
export function problemsOf(
  facts: Omit<StatusFacts, "problems">,
  now: Date,
  has: (command: string) => boolean,
): readonly Problem[] {
  const found: Problem[] = [];
  const add = (level: Problem["level"], text: string, command: string | null) =>
    found.push({
      level,
      text,
      command: command !== null && has(command) ? `meshca ${command}` : null,
    });
  const { reason, details } = facts;
  if (reason !== null)
    add("stopped", `Leaves cannot be signed: ${reason}`, commandFor(reason, has));
  // The server says itself what to do about expiries, to those who may see it.
  const remedies = details?.remedy ?? [];
  for (const root of remedies.length > 0 ? [] : facts.roots) {
    // One that has expired is why leaves cannot be signed, or it is retired and of no concern.
    if (root.state !== "active") continue;
    const left = new Date(root.notAfter).getTime() - now.getTime();
    const life = new Date(root.notAfter).getTime() - new Date(root.notBefore).getTime();
    // As the server warns: not in the first half of a short life.
    if (left < WARNING_MS && left < life / 2)
      add(
        "warning",
        `The active root ${root.id}: ${lifeText(new Date(root.notAfter), now)}`,
        "rotate",
      );
  }
  if (facts.trustDomain !== null && facts.leader === null)
    add("warning", "No replica is the leader: the CA is not maintained", DOCTOR);
  addDetails(details ?? {}, add);
  return found;
}

function addDetails(
  details: NonNullable<StatusFacts["details"]>,
  add: (level: Problem["level"], text: string, command: string | null) => void,
): void {
  const all = (name: string) => details[name] ?? [];
  for (const text of all("store"))
    if (text !== "ok") add("warning", `The store is ${text}`, DOCTOR);
  for (const text of all("changes"))
    if (text !== "possible")
      add("warning", `The CA cannot be changed: ${text.replace(/^not possible: /, "")}`, DOCTOR);
  for (const text of all("alarm")) add("warning", sentence(text), DOCTOR);
  for (const text of all("conflict")) add("warning", sentence(text), "conflict show");
  for (const text of all("access_control"))
    add("warning", `Access control: ${text}`, "conflict show");
  for (const text of all("provider")) add("warning", `Provider: ${text}`, DOCTOR);
  for (const text of all("audit")) if (text !== "ok") add("warning", `Audit log: ${text}`, DOCTOR);
  for (const text of all("tls")) add("warning", `TLS: ${text}`, null);
  for (const text of all("primary"))
    if (/; not followed since /.test(text))
      add("warning", `The primary datacenter ${text}`, DOCTOR);
  for (const text of all("other_primary")) add("warning", sentence(text), DOCTOR);
  for (const text of all("leaves_alarm")) add("warning", sentence(text), null);
  for (const text of all("remedy"))
    add("warning", sentence(text), /\bmeshca (recover|rotate|doctor)\b/.exec(text)?.[1] ?? null);
}

/** The command for a reason of the server's, without the name of the program. */
function commandFor(reason: string, has: (command: string) => boolean): string | null {
  if (/\bexpired\b/.test(reason)) return has("recover") ? "recover" : "rotate";
  if (/access control cannot be loaded/.test(reason)) return "conflict show";
  return DOCTOR;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
