/**
 * Reads the tables of docs/http-api.md, which tests hold against the code.
 * @module
 */
import { readFileSync } from "node:fs";

/** The cells of every row of the table under a heading, without its head. */
export function tableOf(heading: string): string[][] {
  const document = readFileSync(new URL("../../docs/http-api.md", import.meta.url), "utf8");
  const [, section = ""] = document.split(new RegExp(`^## ${heading}$`, "m"));
  const [body = ""] = section.split(/^## /m);
  return body
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .slice(2)
    .map((line) =>
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim().replace(/^`(.*)`$/, "$1")),
    );
}
