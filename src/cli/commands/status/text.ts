/**
 * The state of a server as one screen.
 * @module
 */
import { lifeText, spanText, table, withoutBreaks } from "../../table.ts";
import type { Style, Terminal } from "../../terminal.ts";
import type { DatacenterFacts, Status } from "./types.ts";

/** The lines of /readyz with a time until which something is valid. */
const EXPIRIES = [
  ["root_expires", "active root"],
  ["issuer_expires", "issuer"],
  ["tls_expires", "TLS certificate"],
] as const;

const HIDDEN = "hidden (needs operator:read)";

/** @returns text with its line breaks */
export function statusText(status: Status, now: Date, terminal: Terminal): string {
  const parts = [
    facts(status, now, terminal),
    rootsOf(status, now, terminal),
    leavesOf(status),
    problems(status, terminal),
  ];
  return parts.filter((part) => part !== "").join("\n");
}

function facts(status: Status, now: Date, terminal: Terminal): string {
  const { details, provider, leader, replicas } = status;
  const detail = (name: string) => details?.[name]?.join("; ") ?? (details === null ? HIDDEN : "-");
  const rows: (readonly [name: string, value: string])[] = [
    ["server", status.server],
    ["state", stateText(status, terminal)],
    ["trust domain", status.trustDomain ?? "none yet"],
    [
      "provider",
      provider === null
        ? HIDDEN
        : `${provider.name}${provider.leafCertTtl === null ? "" : `, leaves live ${provider.leafCertTtl}`}`,
    ],
    ["leader", leader ?? "none"],
    ["replicas", replicas.length === 0 ? "none" : replicas.join(", ")],
    ["this replica", details === null ? HIDDEN : `${detail("role")}, index ${detail("index")}`],
    ["store", detail("store")],
    ["changes", detail("changes")],
    ...datacenterRows(status, now),
    ...EXPIRIES.flatMap(([name, what]): [string, string][] => {
      const time = details?.[name]?.[0];
      if (time === undefined || Number.isNaN(Date.parse(time))) return [];
      const isIntermediate = name === "issuer_expires" && status.datacenter?.intermediate != null;
      const life = `${lifeText(new Date(time), now)} (${time.slice(0, 10)})`;
      return [[isIntermediate ? "intermediate" : what, life]];
    }),
  ];
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return rows
    .map(
      ([name, value]) => `${terminal.style("bold", name.padEnd(width))}${withoutBreaks(value)}\n`,
    )
    .join("");
}

/** What a secondary datacenter follows; of a primary one what it signed for others. */
function datacenterRows({ datacenter, details }: Status, now: Date): [string, string][] {
  if (datacenter === null)
    return details?.primary === undefined ? [] : [["follows", details.primary.join("; ")]];
  const { primary, intermediates } = datacenter;
  const rows: [string, string][] = [];
  if (primary !== null) rows.push(["follows", primaryText(primary, now)]);
  if (intermediates.firstNotAfter !== null)
    rows.push([
      "signed for others",
      `${intermediates.unexpired} ${intermediates.unexpired === 1 ? "intermediate" : "intermediates"}, the first: ${lifeText(new Date(intermediates.firstNotAfter), now)}`,
    ]);
  return rows;
}

function primaryText(primary: NonNullable<DatacenterFacts["primary"]>, now: Date): string {
  const { datacenter, asked, lastContact, index, followedIndex, lag, fault } = primary;
  const ago =
    lastContact === null
      ? "no contact yet"
      : `last contact ${spanText(Math.max(0, now.getTime() - Date.parse(lastContact)))} ago`;
  return [
    datacenter,
    asked ? ago : "asked by the leader",
    ...(asked && index !== null ? [`index ${index}`] : []),
    ...(asked && lag !== null ? [`lag ${lag}`] : []),
    ...(!asked && followedIndex !== null ? [`followed index ${followedIndex}`] : []),
    ...(fault === null ? [] : [`not followed since ${fault.since} (${fault.code})`]),
  ].join(", ");
}

function stateText({ ready, problems }: Status, terminal: Terminal): string {
  if (!ready) return terminal.style("red", "leaves cannot be signed");
  return problems.length === 0
    ? terminal.style("green", "ok")
    : terminal.style("yellow", "leaves are signed, see below");
}

const ROOT_STYLE: Readonly<Record<string, Style>> = { expired: "red", abandoned: "yellow" };

function rootsOf({ roots }: Status, now: Date, terminal: Terminal): string {
  if (roots.length === 0) return "";
  const rows = roots.map(({ id, state, notAfter }) => [
    id,
    lifeText(new Date(notAfter), now),
    // The last column, since the codes of a colour have a length.
    state in ROOT_STYLE ? terminal.style(ROOT_STYLE[state] ?? "bold", state) : state,
  ]);
  return table(["ROOT", "LIFE", "STATE"], rows, terminal);
}

/** Which root is needed by how many leaves, a line each. */
function leavesOf({ leaves, roots }: Status): string {
  if (leaves === null || roots.length === 0) return "";
  if (!leaves.counting) return "This server does not count leaves.\n";
  const about = leaves.lowerBound ? "at least" : "about";
  const lines = leaves.roots.map(
    ({ id, leaves: count, until }) =>
      `Root ${id} is needed by ${about} ${count} ${count === 1 ? "leaf" : "leaves"} until ${minuteOf(until)}.\n`,
  );
  if (leaves.lowerBound && leaves.completeSince !== null)
    lines.push(
      `Of leaves signed before ${minuteOf(leaves.completeSince)} some may not be counted.\n`,
    );
  return lines.join("");
}

/** `2026-01-02 15:04 UTC` */
const minuteOf = (instant: string): string => `${instant.slice(0, 16).replace("T", " ")} UTC`;

function problems({ problems }: Status, terminal: Terminal): string {
  return problems
    .map(({ level, text, command }) => {
      const mark =
        level === "stopped"
          ? terminal.style("red", "Stopped:")
          : terminal.style("yellow", "Warning:");
      return `${mark} ${text}\n${command === null ? "" : `  ${command}\n`}`;
    })
    .join("");
}
