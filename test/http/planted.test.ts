/**
 * The search for planted secrets finds each of them, however it is written.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createSearch } from "../fixtures/planted.ts";
import { leaksOf } from "../fixtures/process.ts";

const SECRET = 'planted+"s3cret"/=\\{&}';

describe("createSearch()", () => {
  const forms: Readonly<Record<string, (secret: string) => string>> = {
    "as it is": (secret) => secret,
    "in JSON": (secret) => JSON.stringify({ deep: [{ secret }] }),
    "in Go's JSON": (secret) => JSON.stringify([secret]).replaceAll("&", "\\u0026"),
    "in a URL": (secret) => `/path?token=${encodeURIComponent(secret)}&x`,
    "as form data": (secret) => new URLSearchParams({ token: secret }).toString(),
    "in hexadecimal": (secret) => Buffer.from(`ab${secret}c`).toString("hex"),
    "in colons": (secret) =>
      Buffer.from(secret)
        .toString("hex")
        .replace(/..(?!$)/g, "$&:"),
    "as octets": (secret) => JSON.stringify({ data: [...Buffer.from(secret)] }),
    "in base64": (secret) => Buffer.from(secret).toString("base64"),
    "in base64 behind one octet": (secret) => Buffer.from(`a${secret}bc`).toString("base64"),
    "in base64 behind two octets": (secret) => Buffer.from(`ab${secret}c`).toString("base64"),
    "in base64url": (secret) => Buffer.from(`Basic user:${secret}`).toString("base64url"),
    "in base64 on lines of ten": (secret) =>
      Buffer.from(secret).toString("base64").replace(/.{10}/g, "$&\n"),
    "in PEM within JSON": (secret) =>
      JSON.stringify(Buffer.from(secret).toString("base64").replace(/.{10}/g, "$&\r\n")),
  };
  for (const [name, write] of Object.entries(forms))
    it(`finds a secret ${name}, and not another one`, () => {
      const search = createSearch();
      search.plant("secret", SECRET);
      search.collect("log", `before ${write(SECRET.replace("planted", "another"))} after`);
      assert.deepEqual(search.leaks(), []);
      search.collect("answer", `before ${write(SECRET)} after`);
      assert.match(search.leaks().join(), /^secret as .+ in answer$/);
    });

  it("finds octets among octets, and lists exceptions that were not needed", () => {
    const search = createSearch();
    const key = crypto.getRandomValues(new Uint8Array(32));
    search.plant("key", key, ["file kek", "file other"]);
    search.collect("file kek", Buffer.concat([Buffer.from([0xff, 0]), key]));
    assert.deepEqual([search.leaks(), search.unused()], [[], ["key in file other"]]);
    search.collect("file db", Buffer.concat([Buffer.from([0xff, 0]), key]));
    assert.deepEqual(search.leaks(), ["key as it is in file db"]);
  });
});

describe("leaksOf()", () => {
  it("finds each secret of a server's environment in what it wrote", () => {
    const [token, key, password] = [
      "a-token-of-16-or-more",
      "b2N0ZXRzb2ZhS0VLb2N0ZXRzb2ZhS0VLb2N0ZXRzb2Y=",
      "a-password-of-redis",
    ];
    const environment = {
      MESHCA_INITIAL_MANAGEMENT_TOKEN: token,
      MESHCA_KEK: `id:${key}`,
      MESHCA_STORE: `redis://user:${password}@127.0.0.1`,
    };
    assert.deepEqual(leaksOf(environment, "meshca listens on http://127.0.0.1"), []);
    for (const secret of [token, key, password])
      assert.equal(leaksOf(environment, `{"reason":"${secret}"}`).length, 1);
  });
});
