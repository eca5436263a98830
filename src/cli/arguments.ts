/**
 * The arguments of a command in Go's form, `-name value`, `-name=value`, `-switch=false`, brought
 * into the form `--name=value`, in which a value can begin with a dash.
 * @module
 */
import type { Flag } from "./flags.ts";

interface Normal {
  readonly args: readonly string[];
  /** What is wrong, each a sentence. */
  readonly faults: readonly string[];
}

/** What Go's strconv.ParseBool takes. */
const TRUE = ["1", "t", "T", "true", "TRUE", "True"];
const FALSE = ["0", "f", "F", "false", "FALSE", "False"];

/**
 * Normalises the arguments after a command's name. Unknown flags are left as they are; with them the
 * argument that follows, which may be a secret, is not looked at.
 */
export function normalise(args: readonly string[], flags: readonly Flag[]): Normal {
  const known = new Map(flags.map((flag) => [flag.name, flag]));
  const normal: string[] = [];
  const faults: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    if (arg === "--") {
      normal.push(...args.slice(i));
      break;
    }
    const [, name = "", inline] = /^--?([^=-][^=]*)(?:=(.*))?$/s.exec(arg) ?? [];
    const flag = known.get(name);
    if (flag === undefined) normal.push(arg);
    else if (flag.value === null) {
      const fault = pushSwitch(name, inline, normal);
      if (fault !== null) faults.push(fault);
    } else if (inline !== undefined) normal.push(`--${name}=${inline}`);
    else {
      const next = args[i + 1];
      const looksLikeFlag =
        next === "--" || known.has(/^--?([^=-][^=]*)/.exec(next ?? "")?.[1] ?? "");
      if (next === undefined) faults.push(`--${name} needs a value`);
      else if (looksLikeFlag)
        faults.push(
          `--${name} needs a value; one that begins with "-" is written --${name}=${next}`,
        );
      else normal.push(`--${name}=${next}`);
      if (next !== undefined && !looksLikeFlag) i++;
    }
  }
  return { args: normal, faults };
}

/** Adds a switch that is on, and removes it if it is turned off. @returns what is wrong, or null */
function pushSwitch(name: string, inline: string | undefined, normal: string[]): string | null {
  const on = `--${name}`;
  if (inline === undefined || TRUE.includes(inline)) {
    if (!normal.includes(on)) normal.push(on);
    return null;
  }
  if (!FALSE.includes(inline)) return `--${name} takes no value but true or false`;
  const at = normal.indexOf(on);
  if (at >= 0) normal.splice(at, 1);
  return null;
}
