/**
 * Reading HTTP/1.1 answers: whole at whatever place they were cut, and nothing else than answers.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { VaultError } from "../../../providers/vault/errors.ts";
import { createReplyReader, type Reply } from "../../../providers/vault/reply.ts";
import { fromUtf8, utf8 } from "../../../src/core/bytes.ts";

const MAX = 1000;

/** Feeds a text in pieces; what comes behind the answer is in the last piece. */
function read(text: string, pieces: readonly number[] = []): Reply | null {
  const reader = createReplyReader(MAX);
  const bytes = utf8(text);
  const ends = [...pieces, bytes.length];
  let reply: Reply | null = null;
  let start = 0;
  for (const end of ends) {
    assert.equal(reply, null, "it was whole too soon");
    reply = reader.push(bytes.slice(start, end));
    start = end;
  }
  return reply ?? reader.end();
}

const plain = (reply: Reply | null) =>
  reply === null ? null : { status: reply.status, body: fromUtf8(reply.body), reusable: reply.reusable };

describe("createReplyReader()", () => {
  const GOOD: [string, string, ReturnType<typeof plain>][] = [
    ["with a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", { status: 200, body: "hello", reusable: true }],
    ["without a body", "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n", { status: 204, body: "", reusable: true }],
    ["of no length", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", { status: 403, body: "", reusable: true }],
    ["without a reason", "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", { status: 200, body: "x", reusable: true }],
    [
      "in chunks",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\nA;name=x\r\nlo, world.\r\n0\r\nTrailer: y\r\n\r\n",
      { status: 200, body: "hello, world.", reusable: true },
    ],
    [
      "behind another status",
      "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
      { status: 200, body: "ok", reusable: true },
    ],
    ["of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", { status: 200, body: "ok", reusable: false }],
    ["that closes", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", { status: 200, body: "ok", reusable: false }],
  ];
  for (const [name, text, expected] of GOOD)
    it(`reads an answer ${name}, cut anywhere`, () => {
      assert.deepEqual(plain(read(text)), expected);
      for (let cut = 1; cut < text.length; cut++) assert.deepEqual(plain(read(text, [cut])), expected, `cut at ${cut}`);
      assert.deepEqual(
        plain(
          read(
            text,
            Array.from({ length: text.length - 1 }, (_, i) => i + 1),
          ),
        ),
        expected,
      );
    });

  it("takes what the connection's end ends, and nothing that is cut short", () => {
    const open = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<html>";
    assert.deepEqual(plain(read(open)), { status: 502, body: "<html>", reusable: false });
    for (const [, text] of GOOD) assert.equal(read(text.slice(0, -1)), null);
  });

  it("uses no connection again on which more came", () => {
    assert.equal(read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n")?.reusable, false);
    assert.equal(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200")?.reusable, false);
  });

  it("joins a header that is there twice", () => {
    assert.equal(read("HTTP/1.1 204 x\r\nA: 1\r\na:2 \r\n\r\n")?.headers.get("a"), "1, 2");
  });

  const BAD: [string, string][] = [
    ["no HTTP", "SSH-2.0-OpenSSH\r\n\r\n"],
    ["HTTP/2", "HTTP/2 200\r\n\r\n"],
    ["a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"],
    ["a header without a name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"],
    ["a folded header", "HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\n\r\n"],
    ["a blank before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello"],
    ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"],
    ["a length below zero", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
    ["chunks and a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
    ["a chunk's size that is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"],
    ["a chunk that is longer than it says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"],
    ["line ends without a return", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n"],
    ["a head without an end", `HTTP/1.1 200 OK\r\nA: ${"x".repeat(70_000)}`],
    ["a chunk's line without an end", `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;${"x".repeat(70_000)}`],
  ];
  for (const [name, text] of BAD)
    it(`refuses ${name}`, () => {
      assert.throws(
        () => read(text),
        (error: unknown) => error instanceof VaultError && error.reason === "answer" && /HTTP\/1\.1/.test(error.message),
      );
    });

  it("stops at the limit, however the length is told", () => {
    const long = "x".repeat(MAX + 1);
    for (const text of [
      `HTTP/1.1 200 OK\r\nContent-Length: ${long.length}\r\n\r\n${long}`,
      `HTTP/1.1 200 OK\r\n\r\n${long}`,
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${long.length.toString(16)}\r\n${long}\r\n0\r\n\r\n`,
    ])
      assert.throws(() => read(text), /too long/);
  });
});
