/**
 * Requests whose `:authority` HTTP/2 forbids: grpc-java names the path of the socket there.
 * @module
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { AuthorityFilter } from "../../src/agent/socket/authority-filter.ts";
import { startEndpoint } from "./endpoint.ts";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const SETTINGS = frame(4, 0, Buffer.alloc(0), 0);

function frame(type: number, flags: number, payload: Buffer, stream = 1): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

const text = (value: string) => Buffer.from([value.length, ...Buffer.from(value)]);
/** A literal with incremental indexing whose name is an entry of the static table (RFC 7541 6.2.1). */
const literal = (name: number, value: string) =>
  Buffer.concat([Buffer.from([0x40 | name]), text(value)]);
const named = (name: string, value: string) =>
  Buffer.concat([Buffer.from([0x40]), text(name), text(value)]);
/** As grpc-java sends them: POST and http are indexed, then authority and path as literals. */
const request = (authority: string) =>
  Buffer.concat([
    Buffer.from([0x83, 0x86]),
    literal(1, authority),
    literal(4, "/SpiffeWorkloadAPI/FetchX509SVID"),
    named("content-type", "application/grpc"),
    named("te", "trailers"),
    named("workload.spiffe.io", "true"),
  ]);

const END_HEADERS = 4;
const filtered = (...chunks: readonly Buffer[]): Buffer => {
  const filter = new AuthorityFilter();
  return Buffer.concat(chunks.map((chunk) => filter.push(Buffer.from(chunk))));
};

const asSent = Buffer.concat([PREFACE, SETTINGS, frame(1, END_HEADERS, request("/run/a b.sock"))]);
const asRead = Buffer.concat([PREFACE, SETTINGS, frame(1, END_HEADERS, request("_run_a_b.sock"))]);

describe("a filter of authorities", () => {
  it("replaces what an authority must not have, and changes nothing else", () => {
    assert.deepEqual(filtered(asSent), asRead);
  });

  it("does so however the octets arrive", () => {
    const octets = [...asSent].map((octet) => Buffer.from([octet]));
    assert.deepEqual(filtered(...octets), asRead);
    for (let at = 1; at < asSent.length; at++)
      assert.deepEqual(filtered(asSent.subarray(0, at), asSent.subarray(at)), asRead, `${at}`);
  });

  it("finds the block behind padding and a priority", () => {
    const padded = (authority: string) =>
      frame(
        1,
        END_HEADERS | 0x08 | 0x20,
        Buffer.concat([
          Buffer.from([3]),
          Buffer.from([0, 0, 0, 0, 15]),
          request(authority),
          Buffer.from([0x41, 1, 0x2f]),
        ]),
      );
    assert.deepEqual(
      filtered(PREFACE, padded("/run/web.sock")),
      Buffer.concat([PREFACE, padded("_run_web.sock")]),
    );
  });

  it("leaves authorities that HTTP/2 allows, and data that looks like a request", () => {
    const data = frame(0, 0, asSent);
    const allowed = frame(1, END_HEADERS, request("tmp%2Fweb.sock:[::1]@localhost"));
    const sent = Buffer.concat([PREFACE, SETTINGS, allowed, data, allowed]);
    assert.deepEqual(filtered(sent), sent);
  });

  it("passes on a value with Huffman code, a broken block and a frame that is too long", () => {
    for (const payload of [
      Buffer.from([0x41, 0x81, 0x2f]),
      Buffer.from([0x41, 0x7f]),
      Buffer.from([0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x2f]),
      Buffer.from([0x41]),
      Buffer.alloc(0),
      Buffer.alloc(16_385, 0x2f),
    ]) {
      const sent = Buffer.concat([PREFACE, frame(1, END_HEADERS, payload), SETTINGS]);
      assert.deepEqual(filtered(sent), sent);
    }
  });
});

describe("a request of grpc-java", () => {
  /** Types of the frames of stream 1 that the server sends, up to the first. */
  const firstAnswer = (path: string) =>
    new Promise<number>((resolve, reject) => {
      const socket = connect(path);
      let read = Buffer.alloc(0);
      socket.on("data", (chunk: Buffer) => {
        read = Buffer.concat([read, chunk]);
        for (let at = 0; at + 9 <= read.length; at += 9 + read.readUIntBE(at, 3)) {
          if (read.readUInt32BE(at + 5) !== 1) continue;
          resolve(read.readUInt8(at + 3));
          socket.destroy();
          return;
        }
      });
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("The server closed the connection")));
      socket.write(Buffer.concat([PREFACE, SETTINGS, frame(1, END_HEADERS, request(path))]));
      // An empty message of gRPC, and the end of the stream.
      socket.write(frame(0, 1, Buffer.alloc(5)));
    });

  it("with the path of the socket as its authority is answered, not reset", async () => {
    await using endpoint = await startEndpoint();
    assert.equal(await firstAnswer(endpoint.path), 1);
  });
});
