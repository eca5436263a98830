/**
 * Go's regular expressions in linear time: the expressions come from anyone who may write binding
 * rules, so they are matched without backtracking (Thompson's construction, simulated as a set of
 * states: Pike's VM), in time proportional to the expression times the text.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import { type Assertion, type CharTest, type Node, readRegexp } from "./regexp-syntax.ts";

/** In characters; selectors of claims have some dozen. */
const MAX_PATTERN = 1024;
/** Instructions of a program: with a text of MAX_TEXT they take some tenths of a second at worst. */
const MAX_INSTRUCTIONS = 500;
/** The longest text that is matched, in characters; claims are shorter. */
export const MAX_TEXT = 2048;

type Instruction =
  | { readonly kind: "char"; readonly test: CharTest }
  | { readonly kind: "assertion"; readonly assertion: Assertion }
  /** Continues at several instructions. */
  | { readonly kind: "split"; readonly to: number[] }
  | { readonly kind: "match" };

/**
 * Compiles an expression in Go's syntax.
 * @returns whether a text has a match somewhere. It throws RangeError for a text longer than
 * MAX_TEXT.
 * @throws {FormatError} with Go's text, or if it is too large
 */
export function compileRegexp(pattern: string): (text: string) => boolean {
  if (pattern.length > MAX_PATTERN)
    throw new FormatError(`regular expression is longer than ${MAX_PATTERN} characters`);
  const instructions: Instruction[] = [];
  emit(readRegexp(pattern), instructions);
  add(instructions, { kind: "match" });
  const indexes = new Map<CharTest, number>();
  const testOf = instructions.map((instruction) => {
    if (instruction.kind !== "char") return 0;
    const index = indexes.get(instruction.test) ?? indexes.size;
    indexes.set(instruction.test, index);
    return index;
  });
  const program: Program = { instructions, tests: [...indexes.keys()], testOf };
  return (text) => {
    if (text.length > MAX_TEXT) throw new RangeError(`Text is longer than ${MAX_TEXT} characters`);
    return matches(program, text);
  };
}

/** A compiled expression. A repetition repeats instructions that share their tests. */
interface Program {
  readonly instructions: readonly Instruction[];
  readonly tests: readonly CharTest[];
  /** By instruction, the index of its test. */
  readonly testOf: readonly number[];
}

function add(instructions: Instruction[], instruction: Instruction): void {
  if (instructions.length >= MAX_INSTRUCTIONS)
    throw new FormatError("regular expression is too large");
  instructions.push(instruction);
}

function split(instructions: Instruction[], ...to: number[]): number[] {
  add(instructions, { kind: "split", to });
  return to;
}

/** Appends the instructions of a node. */
function emit(node: Node, instructions: Instruction[]): void {
  switch (node.kind) {
    case "char":
    case "assertion":
      add(instructions, node);
      break;
    case "concatenation":
      for (const part of node.parts) emit(part, instructions);
      break;
    case "alternation": {
      const starts = split(instructions);
      const ends: number[][] = [];
      for (const part of node.parts) {
        starts.push(instructions.length);
        emit(part, instructions);
        ends.push(split(instructions));
      }
      for (const end of ends) end.push(instructions.length);
      break;
    }
    case "repeat": {
      for (let i = 0; i < node.min; i++) {
        const before = instructions.length;
        emit(node.part, instructions);
        // A repeated empty expression stays empty.
        if (instructions.length === before) break;
      }
      if (node.max === null) {
        const start = instructions.length;
        const choice = split(instructions, start + 1);
        emit(node.part, instructions);
        split(instructions, start);
        choice.push(instructions.length);
      } else {
        const choices: number[][] = [];
        for (let i = node.min; i < node.max; i++) {
          choices.push(split(instructions, instructions.length + 1));
          emit(node.part, instructions);
        }
        for (const choice of choices) choice.push(instructions.length);
      }
      break;
    }
  }
}

function matches({ instructions, tests, testOf }: Program, text: string): boolean {
  const chars = Array.from(text, (char) => char.codePointAt(0) as number);
  /** By instruction, the index in the text at which it was reached last. */
  const reached = new Int32Array(instructions.length).fill(-1);
  /** By test, the index in the text for which it was made last, and its outcome. */
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
      const instruction = instructions[index] as Instruction;
      if (instruction.kind === "match") return true;
      if (instruction.kind === "split") open.push(...instruction.to);
      else if (instruction.kind === "assertion") {
        if (holdsAt(instruction.assertion, chars, at)) open.push(index + 1);
      } else if (at < chars.length && holds(testOf[index] as number, at)) next.push(index + 1);
    }
    waiting = next;
  }
  return false;
}

function holdsAt(assertion: Assertion, chars: readonly number[], at: number): boolean {
  switch (assertion) {
    case "text-start":
      return at === 0;
    case "text-end":
      return at === chars.length;
    case "line-start":
      return at === 0 || chars[at - 1] === 0x0a;
    case "line-end":
      return at === chars.length || chars[at] === 0x0a;
    case "word-boundary":
      return isWord(chars[at - 1]) !== isWord(chars[at]);
    case "no-word-boundary":
      return isWord(chars[at - 1]) === isWord(chars[at]);
  }
}

/** Go's \b knows ASCII letters only. */
function isWord(codePoint: number | undefined): boolean {
  return codePoint !== undefined && /^\w$/.test(String.fromCodePoint(codePoint));
}
