/**
 * PEM: what is read, what is skipped, what is refused, and the form it is written in.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { base64, utf8 } from "../../src/core/bytes.ts";
import { FormatError } from "../../src/core/errors.ts";
import { readPem, writePem } from "../../src/core/pem.ts";

const block = (label: string, body: string, end = label) =>
  `-----BEGIN ${label}-----\n${body}\n-----END ${end}-----\n`;
const BODY = base64(utf8("body"));

describe("readPem()", () => {
  const read: readonly (readonly [name: string, text: string, labels: readonly string[]])[] = [
    ["nothing in a text without a block", "no block here\n", []],
    ["nothing in an empty text", "", []],
    ["one block", block("CERTIFICATE", BODY), ["CERTIFICATE"]],
    ["a block without a final newline", block("CERTIFICATE", BODY).trimEnd(), ["CERTIFICATE"]],
    [
      "a block with carriage returns",
      block("CERTIFICATE", BODY).replaceAll("\n", "\r\n"),
      ["CERTIFICATE"],
    ],
    [
      "a block with bare carriage returns",
      block("CERTIFICATE", BODY).replaceAll("\n", "\r"),
      ["CERTIFICATE"],
    ],
    ["two blocks, in their order", block("A", BODY) + block("B C", BODY), ["A", "B C"]],
    ["a block between other text", `before\n${block("X", BODY)}after\n`, ["X"]],
    ["a block behind a stray END line", `-----END X-----\n${block("X", BODY)}`, ["X"]],
    ["no block if BEGIN has four dashes", block("X", BODY).replace("-----BEGIN", "----BEGIN"), []],
    ["no block if BEGIN does not start its line", ` ${block("X", BODY)}`, []],
    ["no block if the label is in lower case", block("x", BODY), []],
    [
      "a block whose lines have trailing blanks",
      block("X", `${BODY}  `).replace("-----\n", "----- \t\n"),
      ["X"],
    ],
    ["a body of many short lines", block("X", [...BODY].join("\n")), ["X"]],
  ];
  for (const [name, text, labels] of read)
    it(`readPem() reads ${name}`, () => {
      const blocks = readPem(text);
      assert.deepEqual(
        blocks.map(({ label }) => label),
        labels,
      );
      for (const { bytes, hasHeaders } of blocks) {
        assert.deepEqual(bytes, utf8("body"));
        assert.equal(hasHeaders, false);
      }
    });

  const refused: readonly (readonly [name: string, text: string, message: string])[] = [
    ["a block without END", `-----BEGIN X-----\n${BODY}\n`, "PEM block X has no matching END line"],
    ["only a BEGIN line", "-----BEGIN X-----", "PEM block X has no matching END line"],
    ["an END of another label", block("X", BODY, "Y"), "PEM block X has no matching END line"],
    ["an END with a longer label", block("X", BODY, "X Y"), "PEM block X has no matching END line"],
    [
      "BEGIN inside a block",
      `-----BEGIN X-----\n${block("X", BODY)}`,
      "PEM block X has no matching END line",
    ],
    [
      "an END that does not start its line",
      `-----BEGIN X-----\n${BODY}-----END X-----\n`,
      "PEM block X has no matching END line",
    ],
    [
      "text behind END on its line",
      `${block("X", BODY).trimEnd()} x\n`,
      "PEM block X has no matching END line",
    ],
    ["an empty body", block("X", ""), "PEM block X is not base64"],
    ["a body with other characters", block("X", "Zm9*"), "PEM block X is not base64"],
    ["a body in base64url", block("X", "-_-_"), "PEM block X is not base64"],
    ["a body of a wrong length", block("X", "Zm9vY"), "PEM block X is not base64"],
    ["padding inside the body", block("X", "Zg==Zg=="), "PEM block X is not base64"],
    ["three padding characters", block("X", "Z==="), "PEM block X is not base64"],
    [
      "a good block before a broken one",
      block("A", BODY) + block("B", "?"),
      "PEM block B is not base64",
    ],
  ];
  for (const [name, text, message] of refused)
    it(`readPem() refuses ${name}`, () => {
      assert.throws(() => readPem(text), { name: "FormatError", message });
    });

  it("readPem() reports that a block has RFC 1421 headers", () => {
    const [first] = readPem(
      block("RSA PRIVATE KEY", `Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n${BODY}`),
    );
    assert.equal(first?.hasHeaders, true);
  });
  it("readPem() throws nothing but FormatError on any text", () => {
    const line = fc.oneof(
      fc.constantFrom(
        "-----BEGIN X-----",
        "-----END X-----",
        "-----BEGIN Y-----",
        "-----",
        BODY,
        "a: b",
        "",
      ),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        try {
          readPem(lines.join("\n"));
        } catch (error) {
          assert.ok(error instanceof FormatError);
        }
      }),
      { numRuns: 2000 },
    );
  });
  it("readPem() takes time in proportion to a text of BEGIN-like lines", () => {
    assert.deepEqual(readPem(`-----BEGIN ${"A ".repeat(200_000)}\n`.repeat(4)), []);
  });
});

describe("writePem()", () => {
  it("writePem() writes 64 columns and a final newline", () => {
    assert.equal(
      writePem("X", new Uint8Array(50)),
      `-----BEGIN X-----\n${"A".repeat(64)}\nAAA=\n-----END X-----\n`.replace(
        "\nAAA=",
        `\n${base64(new Uint8Array(50)).slice(64)}`,
      ),
    );
  });
  it("writePem() writes no empty line behind a full last line", () => {
    assert.equal(
      writePem("X", new Uint8Array(48)),
      `-----BEGIN X-----\n${"A".repeat(64)}\n-----END X-----\n`,
    );
  });
  it("writePem() writes what readPem() reads back", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 500 }), (bytes) => {
        const [read, ...more] = readPem(writePem("SOME LABEL", bytes));
        assert.equal(more.length, 0);
        assert.equal(read?.label, "SOME LABEL");
        assert.deepEqual(read?.bytes, bytes);
      }),
    );
  });
});
