/**
 * Reads the tables of src/http/README.md, which tests hold against the code.
 * @module
 */
import { readFileSync } from "node:fs";

/** The cells of every row of the table under a heading, without its head. */
export function tableOf(heading: string): string[][] {
  const readme = readFileSync(new URL("../../src/http/README.md", import.meta.url), "utf8");
  const [, section = ""] = readme.split(new RegExp(`^## ${heading}$`, "m"));
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
