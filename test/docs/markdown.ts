/**
 * Reads the repository's Markdown files, their tables, headings, links and code, and writes tables.
 * @module
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../fixtures/root.ts";

/** The text of a file, by its path from the root of the repository. */
export function readText(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** The paths of all Markdown files that are tracked, or all but installed ones without Git. */
export function markdownFiles(): string[] {
  if (existsSync(join(ROOT, ".git")))
    return execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], {
      cwd: ROOT,
      encoding: "utf8",
    })
      .split("\n")
      .filter((path) => path !== "" && existsSync(join(ROOT, path)));
  return readdirSync(ROOT, { recursive: true, encoding: "utf8" }).filter(
    (path) => path.endsWith(".md") && !path.includes("node_modules"),
  );
}

/** A Markdown text without its fenced blocks, line by line. */
export function proseOf(text: string): string {
  return text.replaceAll(/^( *)```.*?^\1```$/gms, "");
}

/** The section under a heading, up to the next heading of the same or a higher level. */
export function sectionOf(text: string, heading: string): string {
  const lines = text.split("\n");
  const start = lines.findIndex(
    (line) => line.replace(/^#+ /, "") === heading && line.startsWith("#"),
  );
  if (start < 0) throw new Error(`No heading ${JSON.stringify(heading)}`);
  const level = /^#+/.exec(lines[start] ?? "")?.[0].length ?? 0;
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => (/^#+(?= )/.exec(line)?.[0].length ?? 9) <= level);
  return rest.slice(0, end < 0 ? undefined : end).join("\n");
}

/** A table with aligned columns; those that are empty in every row are left out. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const used = header.map((_, i) => rows.some((row) => row[i] !== ""));
  const all = [header, ...rows].map((row) =>
    row
      .filter((_, i) => used[i])
      .map((cell) => cell.replaceAll("|", "\\|").replaceAll(/<([A-Z]+)>/g, "$1")),
  );
  const widths = (all[0] ?? []).map((_, i) => Math.max(...all.map((row) => (row[i] ?? "").length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |\n`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |\n`;
  const [first = [], ...others] = all;
  return `${line(first)}${rule}${others.map(line).join("")}`;
}

/** The cells of each row of the tables in a text, without their heads. */
export function rowsOf(text: string): string[][] {
  const isRule = (line = ""): boolean => /^\|[\s|:-]+$/.test(line);
  const lines = text.split("\n");
  return lines
    .filter((line, i) => line.startsWith("|") && !isRule(line) && !isRule(lines[i + 1]))
    .map((line) =>
      line
        .slice(1, line.lastIndexOf("|"))
        .split("|")
        .map((cell) => cell.trim()),
    );
}

/** What stands in backticks. */
export function codeIn(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code);
}

/** The anchors of a text, as GitHub makes them from its headings. */
export function anchorsOf(text: string): Set<string> {
  return new Set(
    [...proseOf(text).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

/** The targets of the links of a text. */
export function linksOf(text: string): string[] {
  return [...proseOf(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target);
}
