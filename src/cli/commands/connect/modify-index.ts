/**
 * The flag of changes that are refused if another change came first.
 * @module
 */
import type { Flag, Flags } from "../../flags.ts";
import { usage } from "../../output.ts";

export const MODIFY_INDEX_FLAG: Flag = {
  name: "modify-index",
  value: "N",
  help: "refuse if the configuration has another ModifyIndex, as get-config shows it",
};

/**
 * The index of the flag; null without it. An empty value, as of an unset variable in a script, is not
 * taken for "any". @throws {Failure}
 */
export function modifyIndexOf(flags: Flags): number | null {
  const text = flags.text(MODIFY_INDEX_FLAG.name);
  if (text === null) return null;
  // With up to 15 digits a number is exact; the server counts from 1, and takes 0 for any index.
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw usage(
    `--${MODIFY_INDEX_FLAG.name} must be a whole number from 1, not ${JSON.stringify(text)}`,
  );
}
