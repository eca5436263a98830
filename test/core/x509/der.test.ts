/**
 * The DER reader refuses what X.690 forbids and nothing else; the writer's output is what the
 * reader reads.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Bytes, concat, fromUtf8, hex } from "../../../src/core/bytes.ts";
import { FormatError } from "../../../src/core/errors.ts";
import {
  bitString,
  contextConstructed,
  contextPrimitive,
  type DerNode,
  DerReader,
  element,
  encode,
  lengthSize,
  octetString,
  oid,
  oidContent,
  sequence,
  TAG,
} from "../../../src/core/x509/der.ts";

const bytes = (text: string): Bytes =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const format = (message: string) => ({ name: "FormatError", message });

/** Reads everything that can be read, however deep it lies. */
function readAll(reader: DerReader): void {
  while (!reader.done) {
    reader.next();
    if (reader.tag & 0x20) readAll(reader.inside());
  }
}

describe("DerReader", () => {
  const malformed: readonly (readonly [name: string, der: string, message: string])[] = [
    ["only a tag", "30", "DER ends too early"],
    ["a tag of two bytes", "3f2000", "DER has a field of an unknown type"],
    [
      "an indefinite length",
      "30800000",
      "DER is encoded in BER with indefinite lengths, not in DER",
    ],
    [
      "a length that needs no long form",
      "308105" + "0203010001",
      "DER is encoded in BER with overlong lengths, not in DER",
    ],
    [
      "a length of 127 in the long form",
      `04817f${"00".repeat(127)}`,
      "DER is encoded in BER with overlong lengths, not in DER",
    ],
    [
      "a length with a leading zero",
      `048200ff${"00".repeat(255)}`,
      "DER is encoded in BER with overlong lengths, not in DER",
    ],
    [
      "a three-byte length with a leading zero",
      `04830000ff${"00".repeat(255)}`,
      "DER is encoded in BER with overlong lengths, not in DER",
    ],
    ["a length of four bytes", "048400000001", "DER ends too early"],
    ["a length of 127 bytes", "04ff", "DER ends too early"],
    ["a length whose octets are missing", "048201", "DER ends too early"],
    ["a content that is cut short", "04050102", "DER ends too early"],
    ["a content one byte short", "0402ff", "DER ends too early"],
    ["a content of sixteen megabytes that is not there", "0483ffffff00", "DER ends too early"],
  ];
  for (const [name, der, message] of malformed)
    it(`DerReader.next() refuses ${name}`, () => {
      assert.throws(() => new DerReader(bytes(der)).next(), format(message));
    });

  it("DerReader.next() refuses an element that reaches past the one around it", () => {
    const inner = new DerReader(bytes("3003" + "0402aa" + "bb")).enter(TAG.sequence);
    assert.throws(() => inner.next(), format("DER ends too early"));
  });
  it("DerReader.next() refuses to go on at the end", () => {
    const reader = new DerReader(bytes("0500"));
    reader.next();
    assert.throws(() => reader.next(), format("DER ends too early"));
  });
  it("DerReader.finish() refuses trailing bytes", () => {
    const reader = new DerReader(bytes("050000"));
    reader.expect(TAG.null);
    assert.throws(() => reader.finish(), format("DER has trailing data"));
  });
  it("DerReader.expect() distinguishes a wrong tag from a missing element", () => {
    assert.throws(
      () => new DerReader(bytes("0500")).expect(TAG.integer),
      format("DER has the wrong ASN.1 type"),
    );
    assert.throws(() => new DerReader(bytes("")).expect(TAG.integer), format("DER ends too early"));
    assert.throws(() => new DerReader(bytes("")).expect(0), FormatError);
  });
  it("DerReader.optional() does not consume another element", () => {
    const reader = new DerReader(bytes("0500"));
    assert.equal(reader.optional(TAG.integer), false);
    assert.equal(reader.optional(TAG.null), true);
    assert.equal(reader.optional(TAG.null), false);
  });
  it("DerReader.inside() refuses a bomb of nested elements", () => {
    let bomb: DerNode = element(TAG.null);
    for (let i = 0; i < 17; i++) bomb = sequence(bomb);
    assert.throws(
      () => readAll(new DerReader(encode(bomb))),
      format("DER is nested more than 16 levels deep"),
    );
    // Encoded level by level: not every runtime's stack is deep enough to do it at once.
    let deeper = encode(bomb);
    for (let i = 0; i < 5000; i++) deeper = encode(sequence(deeper));
    assert.throws(
      () => readAll(new DerReader(deeper)),
      format("DER is nested more than 16 levels deep"),
    );
  });
  it("DerReader.inside() reads sixteen levels", () => {
    let nested: DerNode = element(TAG.null);
    for (let i = 0; i < 16; i++) nested = sequence(nested);
    readAll(new DerReader(encode(nested)));
  });

  type Read = (reader: DerReader) => unknown;
  const unsigned: Read = (reader) => reader.unsigned();
  const small: Read = (reader) => reader.small();
  const boolean: Read = (reader) => reader.boolean();
  const readOid: Read = (reader) => reader.oid();
  const readBits: Read = (reader) => reader.bitString();
  const time: Read = (reader) => reader.time();
  const refused: readonly (readonly [name: string, read: Read, der: string, message: string])[] = [
    [
      "DerReader.time() refuses octets that are not ASCII",
      time,
      `170d${"ff".repeat(13)}`,
      "DER is not in whole seconds of UTC (RFC 5280 §4.1.2.5)",
    ],
    [
      "DerReader.time() refuses another type",
      time,
      "020101",
      "DER is neither UTCTime nor GeneralizedTime (RFC 5280 §4.1.2.5)",
    ],
    [
      "DerReader.time() refuses 30 February",
      time,
      `170d${hex(new TextEncoder().encode("260230000000Z"))}`,
      "DER has a time that is not a date",
    ],
    ["DerReader.unsigned() refuses an empty INTEGER", unsigned, "0200", "DER has an empty number"],
    ["DerReader.unsigned() refuses -1", unsigned, "0201ff", "DER is negative"],
    ["DerReader.unsigned() refuses -128", unsigned, "020180", "DER is negative"],
    [
      "DerReader.unsigned() refuses a negative number of two octets",
      unsigned,
      "0202ff7f",
      "DER is negative",
    ],
    [
      "DerReader.unsigned() refuses zero in two octets",
      unsigned,
      "02020000",
      "DER has a number with needless leading zeros",
    ],
    [
      "DerReader.unsigned() refuses a needless sign octet",
      unsigned,
      "0202007f",
      "DER has a number with needless leading zeros",
    ],
    [
      "DerReader.unsigned() refuses another tag",
      unsigned,
      "0a0101",
      "DER has the wrong ASN.1 type",
    ],
    [
      "DerReader.small() refuses 2^31",
      small,
      "02050080000000",
      "DER has a number that is too large",
    ],
    [
      "DerReader.small() refuses 2^32",
      small,
      "02050100000000",
      "DER has a number that is too large",
    ],
    ["DerReader.small() refuses a negative number", small, "0201ff", "DER is negative"],
    [
      "DerReader.boolean() refuses 01",
      boolean,
      "010101",
      "DER has a flag that is neither true nor false",
    ],
    [
      "DerReader.boolean() refuses an empty one",
      boolean,
      "0100",
      "DER has a flag that is neither true nor false",
    ],
    [
      "DerReader.boolean() refuses two octets",
      boolean,
      "0102ffff",
      "DER has a flag that is neither true nor false",
    ],
    [
      "DerReader.oid() refuses an empty one",
      readOid,
      "0600",
      "DER has a malformed object identifier",
    ],
    [
      "DerReader.oid() refuses one whose last octet goes on",
      readOid,
      "06022a86",
      "DER has a malformed object identifier",
    ],
    [
      "DerReader.oid() refuses an arc with a leading zero",
      readOid,
      "06032a8001",
      "DER has a malformed object identifier",
    ],
    [
      "DerReader.oid() refuses a first arc with a leading zero",
      readOid,
      "0602802a",
      "DER has a malformed object identifier",
    ],
    [
      "DerReader.bitString() refuses an empty one",
      readBits,
      "0300",
      "DER has a bit string that is not of whole octets",
    ],
    [
      "DerReader.bitString() refuses unused bits",
      readBits,
      "03020780",
      "DER has a bit string that is not of whole octets",
    ],
    [
      "DerReader.bitString() refuses the constructed form",
      readBits,
      "23040302" + "00aa",
      "DER has the wrong ASN.1 type",
    ],
  ];
  for (const [name, read, der, message] of refused)
    it(name, () => {
      assert.throws(() => read(new DerReader(bytes(der))), format(message));
    });

  const values: readonly (readonly [der: string, value: number])[] = [
    ["020100", 0],
    ["02017f", 127],
    ["02020080", 128],
    ["02020100", 256],
    ["02047fffffff", 2 ** 31 - 1],
  ];
  for (const [der, value] of values)
    it(`DerReader.small() reads ${value}`, () => {
      assert.equal(new DerReader(bytes(der)).small(), value);
    });
  it("DerReader.boolean() reads 00 and ff", () => {
    assert.equal(new DerReader(bytes("010100")).boolean(), false);
    assert.equal(new DerReader(bytes("0101ff")).boolean(), true);
  });

  it("DerReader throws nothing but FormatError on any bytes", () => {
    const tag = fc.constantFrom(...Object.values(TAG), 0xa0, 0x82, 0x86, 0x1f);
    const soup = fc.array(
      fc.oneof(tag, fc.constantFrom(0, 1, 2, 3, 0x7f, 0x80, 0x81, 0x82, 0xff), fc.nat(255)),
      { maxLength: 60 },
    );
    const reads: readonly Read[] = [
      unsigned,
      small,
      boolean,
      readOid,
      readBits,
      readAll,
      (r) => r.enter(TAG.sequence),
      (r) => r.next(),
    ];
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 300 }), soup),
        fc.array(fc.nat(reads.length - 1), { maxLength: 8 }),
        (input, steps) => {
          const reader = new DerReader(Uint8Array.from(input));
          try {
            for (const step of steps) reads[step]?.(reader);
            readAll(reader);
          } catch (error) {
            assert.ok(error instanceof FormatError, String(error));
          }
          assert.ok(
            reader.contentEnd <= input.length &&
              reader.contentStart <= reader.contentEnd &&
              reader.start <= reader.contentEnd,
          );
        },
      ),
      { numRuns: 10_000 },
    );
  });
});

type Tree =
  | { readonly tag: number; readonly content: Uint8Array }
  | { readonly tag: number; readonly children: readonly Tree[] };

function node(tree: Tree): DerNode {
  return "children" in tree
    ? element(tree.tag, ...tree.children.map(node))
    : element(tree.tag, tree.content);
}

function read(reader: DerReader): Tree[] {
  const trees: Tree[] = [];
  while (!reader.done) {
    reader.next();
    const { tag } = reader;
    trees.push(
      tag & 0x20
        ? { tag, children: read(reader.inside()) }
        : { tag, content: reader.content().slice() },
    );
  }
  return trees;
}

describe("encode()", () => {
  for (const length of [0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000])
    it(`encode() writes a content of ${length} octets that reads back`, () => {
      const content = new Uint8Array(length).fill(7);
      const der = encode(octetString(content));
      assert.equal(der.length, 1 + lengthSize(length) + length);
      const reader = new DerReader(der);
      reader.expect(TAG.octetString);
      reader.finish();
      assert.equal(hex(reader.content()), hex(content));
      assert.equal(hex(reader.element()), hex(der));
    });
  it("encode() writes trees that read back as they were", () => {
    const primitive = fc.constantFrom(
      ...Object.values(TAG).filter((tag) => !(tag & 0x20)),
      contextPrimitive(0),
      contextPrimitive(6),
    );
    const constructed = fc.constantFrom(
      TAG.sequence,
      TAG.set,
      contextConstructed(0),
      contextConstructed(3),
    );
    const leaf = fc.record({ tag: primitive, content: fc.uint8Array({ maxLength: 300 }) });
    const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 12, depthSize: "large", withCrossShrink: true },
        leaf,
        fc.record({ tag: constructed, children: fc.array(tie("tree"), { maxLength: 5 }) }),
      ),
    }));
    const plain = (one: Tree): unknown =>
      "children" in one
        ? { tag: one.tag, children: one.children.map(plain) }
        : { tag: one.tag, content: hex(one.content) };
    fc.assert(
      fc.property(fc.array(tree, { maxLength: 4 }), (trees) => {
        const der = concat(...trees.map((one) => encode(node(one))));
        assert.deepEqual(read(new DerReader(der)).map(plain), trees.map(plain));
      }),
      { numRuns: 1000 },
    );
  });
  it("encode() copies bytes that are DER already", () => {
    const inner = encode(element(TAG.null));
    assert.equal(hex(encode(sequence(inner, sequence(inner)))), "30060500" + "30020500");
  });
});

describe("oidContent()", () => {
  const oids: readonly (readonly [dotted: string, content: string])[] = [
    ["1.2.840.113549.1.1.11", "2a864886f70d01010b"],
    ["2.5.29.17", "551d11"],
    ["1.3.101.112", "2b6570"],
    ["2.999.3", "883703"],
    ["1.2.16383.16384", "2aff7f818000"],
  ];
  for (const [dotted, content] of oids)
    it(`oidContent() writes ${dotted}`, () => {
      assert.equal(hex(oidContent(dotted)), content);
      const reader = new DerReader(encode(oid(oidContent(dotted))));
      reader.oid();
      assert.equal(hex(reader.content()), content);
    });
});

describe("bitString()", () => {
  it("bitString() writes whole octets, which DerReader.bitString() reads back", () => {
    const text = Uint8Array.from("bits", (char) => char.charCodeAt(0));
    assert.equal(fromUtf8(new DerReader(encode(bitString(text))).bitString()), "bits");
  });
});
