/**
 * What `meshca doctor` found, as text: findings by urgency, then what could not be checked.
 * @module
 */
import { withoutBreaks } from "../table.ts";
import type { Style, Terminal } from "../terminal.ts";
import { type Report, type Result, SEVERITIES, type Severity } from "./types.ts";

const TITLES: Readonly<Record<Severity, readonly [title: string, style: Style]>> = {
  critical: ["Critical", "red"],
  warning: ["Warning", "yellow"],
  note: ["Note", "bold"],
};

/** @param all whether checks that found nothing are listed @returns text with its line breaks */
export function reportText({ server, results }: Report, all: boolean, terminal: Terminal): string {
  const blocks = SEVERITIES.flatMap((severity) =>
    results.flatMap((result) =>
      result.findings
        .filter((finding) => finding.severity === severity)
        .map(({ what, why, fix }) => {
          const [title, style] = TITLES[severity];
          return [
            `${terminal.style(style, title)} ${nameOf(result)}\n`,
            wrapped(what, "  ", terminal),
            wrapped(`Why: ${why}`, "  ", terminal),
            wrapped(`Fix: ${fix}`, "  ", terminal),
          ].join("");
        }),
    ),
  );
  const list = (title: string, outcome: Result["outcome"]): string[] => {
    const some = results.filter((result) => result.outcome === outcome);
    if (some.length === 0) return [];
    // One reason often keeps many checks from being made.
    const details = [...new Set(some.map(({ detail }) => detail))];
    const lines = details.map((detail) => {
      const names = some.filter((one) => one.detail === detail).map(nameOf);
      return wrapped(`${names.join(", ")}: ${detail}`, "  ", terminal);
    });
    return [`${terminal.style("bold", title)}\n${lines.join("")}`];
  };
  const count = (outcome: Result["outcome"]) =>
    results.filter((result) => result.outcome === outcome).length;
  const summary = `${server}: ${count("ok")} checks are ok, ${count("found")} found something, ${count("unchecked")} could not be made, ${count("skipped")} do not apply`;
  return [
    ...blocks,
    ...list("Not checked", "unchecked"),
    ...(all ? [...list("Ok", "ok"), ...list("Does not apply", "skipped")] : []),
    wrapped(summary, "", terminal),
  ].join("\n");
}

const nameOf = ({ id, subject }: Result): string => (subject === null ? id : `${id} of ${subject}`);

/** Lines no longer than the terminal, unless one word is; with the indentation of the first. */
function wrapped(text: string, indent: string, { width }: Pick<Terminal, "width">): string {
  const lines: string[] = [];
  let line = "";
  for (const word of withoutBreaks(text).split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].map((one) => `${indent}${one}\n`).join("");
}
