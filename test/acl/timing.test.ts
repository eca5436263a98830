/**
 * The time of a token check does not depend on how many characters a guess shares with an existing
 * token. Measured by the distribution of many checks, which does find a check that compares from
 * the first character on.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeniedError } from "../../src/core/errors.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestAccess } from "./access.ts";

/** Checks of each kind. With so many the share below differs from 0.5 by 0.008 by chance (1 σ). */
const CHECKS = 3000;
const TOKENS = 200;

/** The same for all tokens that are there but for the last four characters. */
const PREFIX = "5f3c9a10-77aa-4b1e-9c55-0d2f6a8b";
const ending = (n: number) => n.toString(16).padStart(4, "0");
/**
 * Guesses: one that is a token but for its end, and one that differs from its first character on.
 */
const near = (n: number) => `${PREFIX}${ending(0x8000 + n)}`;
const far = (n: number) =>
  `a${PREFIX.slice(1).replace(/[0-9a-f]/g, (digit) => ((Number.parseInt(digit, 16) + 7) % 16).toString(16))}${ending(0x8000 + n)}`;

/** How long `check` takes for guesses of two kinds, by turns in chance order, in nanoseconds. */
async function timesOf(check: (guess: string) => unknown): Promise<readonly [number[], number[]]> {
  const times: [number[], number[]] = [[], []];
  for (let n = 0; n < 300; n++) await check(n % 2 === 0 ? near(n) : far(n));
  while (times[0].length < CHECKS || times[1].length < CHECKS) {
    const kind = systemRandom.fraction() < 0.5 ? 0 : 1;
    const n = times[kind].length;
    const guess = kind === 0 ? near(n % 0x7fff) : far(n % 0x7fff);
    const started = process.hrtime.bigint();
    await check(guess);
    times[kind].push(Number(process.hrtime.bigint() - started));
  }
  return times;
}

/**
 * Of all pairs of one from each, the share in which the first takes longer (Mann-Whitney's U): 0.5
 * where they are alike.
 */
function shareLonger([a, b]: readonly [number[], number[]]): number {
  const all = [
    ...a.map((time) => ({ time, first: 1 })),
    ...b.map((time) => ({ time, first: 0 })),
  ].toSorted((x, y) => x.time - y.time);
  let [ranks, at] = [0, 0];
  while (at < all.length) {
    let end = at;
    while (end < all.length && all[end]?.time === all[at]?.time) end++;
    const firsts = all.slice(at, end).filter(({ first }) => first === 1).length;
    ranks += firsts * ((at + 1 + end) / 2);
    at = end;
  }
  return (ranks - (a.length * (a.length + 1)) / 2) / (a.length * b.length);
}

describe("token guessing (CWE-208)", () => {
  it("authorize() takes as long for a guess that is nearly a secret as for any other", {
    timeout: 60_000,
  }, async () => {
    const { authorizer, replica, addToken } = await createTestAccess();
    for (let n = 0; n < TOKENS; n++) {
      const { token } = await addToken();
      const entry = replica.tokens.get(token.accessorId);
      assert.ok(entry);
      const key = await replica.hashSecret(`${PREFIX}${ending(n)}`);
      await replica.write([
        { kind: "token", id: token.accessorId, replaces: entry, content: token, key },
      ]);
    }
    assert.equal((await authorizer.authorize(`${PREFIX}${ending(7)}`)).anonymous, false);
    const share = shareLonger(
      await timesOf(async (guess) => {
        try {
          await authorizer.authorize(guess);
        } catch (error) {
          if (error instanceof DeniedError) return;
          throw error;
        }
        throw new Error("It was let in");
      }),
    );
    assert.ok(
      Math.abs(share - 0.5) < 0.1,
      `of a guess that is near and one that is not the first takes longer in ${share} of all pairs`,
    );
  });

  it("the same distribution finds a check that compares character by character", {
    timeout: 60_000,
  }, async () => {
    const secrets = Array.from({ length: TOKENS }, (_, n) => `${PREFIX}${ending(n)}`);
    const share = shareLonger(
      await timesOf((guess) =>
        secrets.some((secret) => {
          for (let i = 0; i < secret.length; i++)
            if (secret.charCodeAt(i) !== guess.charCodeAt(i)) return false;
          return true;
        }),
      ),
    );
    assert.ok(share > 0.75, `it was found in only ${share} of all pairs`);
  });
});
