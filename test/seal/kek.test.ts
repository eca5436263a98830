/**
 * Reading key-encryption keys: accepted and refused texts, and that no message repeats a key.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { base64 } from "../../src/core/bytes.ts";
import { ConfigError } from "../../src/core/errors.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";

const KEY = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";
const OTHER = "Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M=";

async function refusal(text: string): Promise<string> {
  try {
    await readKeks(text);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.code, "config_invalid");
    return error.message;
  }
  throw new assert.AssertionError({ message: `not refused: ${JSON.stringify(text)}` });
}

describe("readKeks()", () => {
  const bad: readonly [why: string, text: string, expected: RegExp][] = [
    ["nothing", "", /there is no key/],
    ["white space only", " \n\t,, ", /there is no key/],
    ["a key without an id", KEY, /entry 1 is not ID:BASE64/],
    ["an empty id", `:${KEY}`, /entry 1 is not ID:BASE64/],
    ["an id with a colon, which sealed text is split at", `a:b:${KEY}`, /entry 1 is not ID:BASE64/],
    ["an id of 33 characters", `${"a".repeat(33)}:${KEY}`, /entry 1 is not ID:BASE64/],
    ["an empty key", "a:", /entry 1 is not ID:BASE64/],
    ["a key of 31 octets", `a:${base64(new Uint8Array(31).fill(66))}`, /a key of 32 octets/],
    ["a key of 33 octets", `a:${base64(new Uint8Array(33).fill(66))}`, /a key of 32 octets/],
    ["a key of 16 octets", `a:${base64(new Uint8Array(16).fill(66))}`, /a key of 32 octets/],
    ["a key in hexadecimal", `a:${"42".repeat(32)}`, /entry 1 is not ID:BASE64/],
    ["a key without padding", `a:${KEY.slice(0, -1)}`, /entry 1 is not ID:BASE64/],
    ["a key with too much padding", `a:${KEY}=`, /entry 1 is not ID:BASE64/],
    ["a key in base64url", `a:${KEY.replace("Q", "_")}`, /entry 1 is not ID:BASE64/],
    ["an id twice", `a:${KEY},a:${OTHER}`, /entry 2 has the id of an earlier one/],
    ["the same entry twice", `a:${KEY},a:${KEY}`, /entry 2 has the id of an earlier one/],
    ["two faults among good ones", `a:${KEY},b:xyz,c:${OTHER},${OTHER}`, /entry 2 .*entry 4 /],
  ];
  for (const [why, text, expected] of bad)
    it(`readKeks() refuses ${why} without repeating any of it`, async () => {
      const message = await refusal(text);
      assert.match(message, expected);
      for (const word of text.split(/[\s,:=]+/))
        assert.ok(word.length < 4 || !message.includes(word), `message repeats ${word}`);
    });

  it("readKeks() says how to make a key", async () => {
    assert.match(await refusal(""), /openssl rand -base64 32/);
  });

  it("readKeks() takes entries separated by commas, blanks or line ends, the current one first", async () => {
    for (const separator of [",", "\n", "\r\n", " , ", ",\n"]) {
      const ring = await readKeks(`new:${KEY}${separator}old:${OTHER}${separator}`);
      assert.equal(ring.current.id, "new");
      assert.equal(ring.get("old")?.id, "old");
      assert.equal(ring.get("NEW"), undefined);
      assert.equal(ring.get(""), undefined);
    }
  });

  it("readKeks() takes ids of one to 32 letters, digits, _ and -", async () => {
    for (const id of ["a", "2026", "_-_", "Z".repeat(32)])
      assert.equal((await readKeks(`${id}:${KEY}`)).current.id, id);
  });

  it("readKeks() derives keys that cannot be exported", async () => {
    const { current } = await readKeks(`a:${KEY}`);
    assert.equal(current.wrapping.extractable, false);
    assert.equal(current.mac.extractable, false);
    assert.ok(!JSON.stringify(current).includes(KEY));
  });

  it("readKeks() derives the same keys from the same text, and others from another", async () => {
    const data = new Uint8Array(8);
    const macOf = async (text: string) =>
      base64(
        new Uint8Array(await crypto.subtle.sign("HMAC", (await readKeks(text)).current.mac, data)),
      );
    assert.equal(await macOf(`a:${KEY}`), await macOf(`b:${KEY}`));
    assert.notEqual(await macOf(`a:${KEY}`), await macOf(`a:${OTHER}`));
  });

  it("makeKek() makes what readKeks() reads, new each time", async () => {
    const texts = new Set<string>();
    for (let i = 0; i < 200; i++) {
      const text = makeKek();
      texts.add(text);
      const { current } = await readKeks(text);
      assert.equal(current.id, text.slice(0, text.indexOf(":")));
    }
    assert.equal(texts.size, 200);
  });
});
