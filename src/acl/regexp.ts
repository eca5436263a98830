/**
 * Regular expressions that anyone who may write binding rules gives, matched in time that grows
 * with the expression times the text whatever they are: all places of the expression are followed
 * through the text at once (Thompson's construction), so that there is no going back.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import { type CharTest, type Node, type Place, readRegexp } from "./regexp-syntax.ts";

/** A selector of a claim is some dozen characters. */
const MAX_PATTERN = 1024;
/**
 * Steps of a compiled expression: with a text of MAX_TEXT it takes some tenths of a second at
 * worst.
 */
const MAX_STEPS = 500;
/** Characters of a text that is matched; claims are shorter. */
export const MAX_TEXT = 2048;

type Step =
  | { readonly kind: "char"; readonly test: CharTest }
  | { readonly kind: "place"; readonly place: Place }
  /** Goes on at several steps. */
  | { readonly kind: "fork"; readonly to: number[] }
  | { readonly kind: "end" };

/**
 * Compiles an expression in Go's syntax.
 * @returns whether a text has a match somewhere. It throws RangeError for a text longer than
 * MAX_TEXT.
 * @throws {FormatError} with Go's text, or if it is too large
 */
export function compileRegexp(pattern: string): (text: string) => boolean {
  if (pattern.length > MAX_PATTERN)
    throw new FormatError(`regular expression is longer than ${MAX_PATTERN} characters`);
  const steps: Step[] = [];
  write(readRegexp(pattern), steps);
  add(steps, { kind: "end" });
  const places = new Map<CharTest, number>();
  const testOf = steps.map((step) => {
    if (step.kind !== "char") return 0;
    const place = places.get(step.test) ?? places.size;
    places.set(step.test, place);
    return place;
  });
  const program: Program = { steps, tests: [...places.keys()], testOf };
  return (text) => {
    if (text.length > MAX_TEXT) throw new RangeError(`Text is longer than ${MAX_TEXT} characters`);
    return matches(program, text);
  };
}

/**
 * A compiled expression. A repetition repeats steps, and not their tests, of which one can be as
 * long as the expression.
 */
interface Program {
  readonly steps: readonly Step[];
  /** Each once. */
  readonly tests: readonly CharTest[];
  /** The place of a step's test among them. */
  readonly testOf: readonly number[];
}

function add(steps: Step[], step: Step): void {
  if (steps.length >= MAX_STEPS) throw new FormatError("regular expression is too large");
  steps.push(step);
}

function fork(steps: Step[], ...to: number[]): number[] {
  add(steps, { kind: "fork", to });
  return to;
}

/** Writes the steps of a node; whatever comes after it follows. */
function write(node: Node, steps: Step[]): void {
  switch (node.kind) {
    case "char":
    case "place":
      add(steps, node);
      break;
    case "all":
      for (const part of node.parts) write(part, steps);
      break;
    case "any": {
      const starts = fork(steps);
      const ends: number[][] = [];
      for (const part of node.parts) {
        starts.push(steps.length);
        write(part, steps);
        ends.push(fork(steps));
      }
      for (const end of ends) end.push(steps.length);
      break;
    }
    case "repeat": {
      for (let i = 0; i < node.min; i++) {
        const before = steps.length;
        write(node.part, steps);
        // What is empty is as empty a thousand times.
        if (steps.length === before) break;
      }
      if (node.max === null) {
        const start = steps.length;
        const choice = fork(steps, start + 1);
        write(node.part, steps);
        fork(steps, start);
        choice.push(steps.length);
      } else {
        const choices: number[][] = [];
        for (let i = node.min; i < node.max; i++) {
          choices.push(fork(steps, steps.length + 1));
          write(node.part, steps);
        }
        for (const choice of choices) choice.push(steps.length);
      }
      break;
    }
  }
}

function matches({ steps, tests, testOf }: Program, text: string): boolean {
  const chars = Array.from(text, (char) => char.codePointAt(0) as number);
  /** At which place of the text each step was reached last. */
  const reached = new Int32Array(steps.length).fill(-1);
  /**
   * For which place of the text each test was made last, and its outcome: all steps are asked about
   * the same character.
   */
  const testedAt = new Int32Array(tests.length).fill(-1);
  const outcomes = new Uint8Array(tests.length);
  const holds = (test: number, at: number): boolean => {
    if (testedAt[test] !== at) {
      testedAt[test] = at;
      outcomes[test] = tests[test]?.(chars[at] as number) === true ? 1 : 0;
    }
    return outcomes[test] === 1;
  };
  let waiting: number[] = [];
  for (let at = 0; at <= chars.length; at++) {
    const next: number[] = [];
    // A match may begin anywhere.
    const open = [...waiting, 0];
    for (let index = open.pop(); index !== undefined; index = open.pop()) {
      if (reached[index] === at) continue;
      reached[index] = at;
      const step = steps[index] as Step;
      if (step.kind === "end") return true;
      if (step.kind === "fork") open.push(...step.to);
      else if (step.kind === "place") {
        if (isAt(step.place, chars, at)) open.push(index + 1);
      } else if (at < chars.length && holds(testOf[index] as number, at)) next.push(index + 1);
    }
    waiting = next;
  }
  return false;
}

function isAt(place: Place, chars: readonly number[], at: number): boolean {
  switch (place) {
    case "text-start":
      return at === 0;
    case "text-end":
      return at === chars.length;
    case "line-start":
      return at === 0 || chars[at - 1] === 0x0a;
    case "line-end":
      return at === chars.length || chars[at] === 0x0a;
    case "word-edge":
      return isWord(chars[at - 1]) !== isWord(chars[at]);
    case "no-word-edge":
      return isWord(chars[at - 1]) === isWord(chars[at]);
  }
}

/** Go's \b knows ASCII letters only. */
function isWord(codePoint: number | undefined): boolean {
  return codePoint !== undefined && /^\w$/.test(String.fromCodePoint(codePoint));
}
