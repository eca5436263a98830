/**
 * Damaged and random requests: they are refused with an error of ours, and none is accepted that
 * openssl refuses.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { before, describe, it } from "node:test";
import fc from "fast-check";
import { type Bytes, concat, hex } from "../../../src/core/bytes.ts";
import { CaError, FormatError, RequestError } from "../../../src/core/errors.ts";
import { readCsr, readCsrDer, verifyProof } from "../../../src/core/x509/csr.ts";
import { opensslCsr } from "../../fakes/ca.ts";
import { SLOW } from "./cas.ts";
import { csrPem, derOf, NEW_KEYS, URI } from "./requests.ts";

/**
 * Whether a request is read and its proof holds. Anything thrown that is not a refusal fails the
 * test.
 */
async function accepted(der: Bytes, what: string): Promise<boolean> {
  try {
    await verifyProof(readCsrDer(der));
    return true;
  } catch (error) {
    assert.ok(error instanceof RequestError || error instanceof FormatError, `${what}: ${error}`);
    return false;
  }
}

function opensslAccepts(der: Bytes): boolean {
  try {
    execFileSync("openssl", ["req", "-verify", "-noout", "-inform", "DER"], {
      input: der,
      stdio: ["pipe", "pipe", "pipe"],
    });
    return true;
  } catch {
    return false;
  }
}

/** Each position of `der` with each of `masks` applied to it. */
function* flips(der: Bytes, masks: readonly number[]): Generator<{ der: Bytes; what: string }> {
  for (let at = 0; at < der.length; at++)
    for (const mask of masks) {
      const mutant = der.slice();
      mutant[at] = (mutant[at] ?? 0) ^ mask;
      yield { der: mutant, what: `octet ${at} ^ ${mask}` };
    }
}

async function checkMutants(mutants: Iterable<{ der: Bytes; what: string }>): Promise<number> {
  let count = 0;
  for (const { der, what } of mutants) {
    count++;
    if (await accepted(der, what))
      assert.ok(
        opensslAccepts(der),
        `${what} is accepted here and refused by openssl: ${hex(der)}`,
      );
  }
  return count;
}

describe("readCsrDer() and verifyProof()", () => {
  const requests = new Map<string, Bytes>();
  before(() => {
    for (const name of ["EC 256", "RSA 2048", "Ed25519"])
      requests.set(
        name,
        derOf(
          opensslCsr(`URI:${URI},DNS:localhost,IP:127.0.0.1`, NEW_KEYS.get(name), [
            "-subj",
            "/CN=a",
          ]).csr,
        ),
      );
  }, SLOW);
  const request = (name: string): Bytes => requests.get(name) ?? new Uint8Array();

  it("readCsrDer() and verifyProof() accept the requests that are damaged below, as openssl does", async () => {
    for (const [name, der] of requests) {
      assert.equal(await accepted(der, name), true);
      assert.equal(opensslAccepts(der), true);
    }
  });
  for (const [name, masks] of [
    ["EC 256", [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x7f, 0x80, 0x81, 0xff]],
    ["RSA 2048", [0x01, 0x20, 0x80, 0xff]],
    ["Ed25519", [0x01, 0x20, 0x80, 0xff]],
  ] as const) {
    it(
      `readCsrDer() and verifyProof() accept no ${name} request with one changed octet that openssl refuses`,
      SLOW,
      async () => {
        assert.equal(
          await checkMutants(flips(request(name), masks)),
          request(name).length * masks.length,
        );
      },
    );
    it(
      `readCsrDer() and verifyProof() accept no ${name} request with an octet missing, doubled or put in`,
      SLOW,
      async () => {
        const der = request(name);
        const mutants = function* () {
          for (let at = 0; at < der.length; at++) {
            yield { der: der.slice(0, at), what: `cut at ${at}` };
            yield {
              der: concat(der.subarray(0, at), der.subarray(at + 1)),
              what: `without octet ${at}`,
            };
            yield {
              der: concat(der.subarray(0, at + 1), der.subarray(at)),
              what: `octet ${at} twice`,
            };
            yield {
              der: concat(der.subarray(0, at), new Uint8Array(1), der.subarray(at)),
              what: `a zero before octet ${at}`,
            };
          }
        };
        await checkMutants(mutants());
      },
    );
  }
  it(
    "readCsrDer() and verifyProof() accept no request damaged in several places that openssl refuses",
    SLOW,
    async () => {
      const change = fc.record({
        at: fc.nat(2000),
        value: fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0x81, 0xff, 0x30, 0xa0), fc.nat(255)),
      });
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom("EC 256", "RSA 2048", "Ed25519"),
          fc.array(change, { minLength: 1, maxLength: 5 }),
          async (name, changes) => {
            const der = request(name).slice();
            for (const { at, value } of changes) der[at % der.length] = value;
            if (await accepted(der, name)) assert.ok(opensslAccepts(der), hex(der));
          },
        ),
        { numRuns: 3000 },
      );
    },
  );
});

describe("readCsr()", () => {
  const refusedAlways = (text: string) => assert.throws(() => readCsr(text), CaError);

  it("readCsr() throws nothing but RequestError on any text", () => {
    fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 2000 }), refusedAlways), {
      numRuns: 3000,
    });
  });
  it("readCsr() throws nothing but RequestError on any octets in a PEM block", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 2000 }), (octets) =>
        refusedAlways(csrPem(octets)),
      ),
      { numRuns: 5000 },
    );
  });
  it("readCsr() throws nothing but RequestError on a PEM text with changed characters", () => {
    const { csr } = opensslCsr(`URI:${URI}`);
    const change = fc.record({
      at: fc.nat(csr.length - 1),
      text: fc.string({ unit: "binary", maxLength: 3 }),
    });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        let text = csr;
        for (const { at, text: put } of changes)
          text = text.slice(0, at) + put + text.slice(at + put.length);
        try {
          readCsr(text);
        } catch (error) {
          assert.ok(error instanceof RequestError, String(error));
        }
      }),
      { numRuns: 5000 },
    );
  });
});
