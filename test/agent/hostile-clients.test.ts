/**
 * Clients that gRPC's own never are: other HTTP/2 stacks with odd headers, clients that do not read,
 * that send something else, or that send nothing.
 * @module
 */
import assert from "node:assert/strict";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
} from "node:http2";
import { connect, type Socket } from "node:net";
import { describe, it } from "node:test";
import { status } from "@grpc/grpc-js";
import { startEndpoint, type TestEndpoint, until } from "./endpoint.ts";
import { messageType, type SvidMessage } from "./grpc-client.ts";
import { RawRequest } from "./raw-http2.ts";

const EMPTY_MESSAGE = Buffer.alloc(5);
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

function http2To(path: string): ClientHttp2Session {
  const session = connectHttp2("http://localhost", {
    createConnection: () => connect(path),
  });
  session.on("error", () => undefined);
  return session;
}

function request(
  session: ClientHttp2Session,
  headers: Readonly<Record<string, string | string[]>> = {},
): ClientHttp2Stream {
  const stream = session.request({
    ":method": "POST",
    ":path": "/SpiffeWorkloadAPI/FetchX509SVID",
    "content-type": "application/grpc",
    te: "trailers",
    "workload.spiffe.io": "true",
    ...headers,
  });
  stream.on("error", () => undefined);
  return stream;
}

/** The headers of a response, which has the status if it has no message. */
const headersOf = (stream: ClientHttp2Stream) =>
  new Promise<Readonly<Record<string, unknown>>>((resolve) => stream.once("response", resolve));

/** The first message of a stream. */
async function firstMessage(stream: ClientHttp2Stream): Promise<SvidMessage> {
  // Data of a response that nobody waits for is discarded.
  await headersOf(stream);
  return new Promise((resolve) => {
    let read = Buffer.alloc(0);
    stream.on("data", (chunk: Buffer) => {
      read = Buffer.concat([read, chunk]);
      if (read.length < 5 || read.length < 5 + read.readUInt32BE(1)) return;
      const message = read.subarray(5, 5 + read.readUInt32BE(1));
      resolve(messageType("X509SVIDResponse").deserialize(message) as SvidMessage);
    });
  });
}

/** Whether the endpoint still serves. */
async function stillServes({ client }: TestEndpoint): Promise<void> {
  const { stream, reader } = client.svids();
  assert.equal((await reader.next()).svids.length, 1);
  stream.cancel();
}

/** Sends octets, and waits until the other side closes. */
function sendRaw(path: string, octets: Buffer | string): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect(path, () => socket.write(octets));
    socket.on("error", () => undefined);
    socket.on("data", () => undefined);
    socket.on("close", () => resolve(socket));
  });
}

describe("another HTTP/2 stack", () => {
  for (const authority of [
    "%2Ftmp%2Fagent.sock",
    "localhost",
    "unix:%2Frun%2Fweb.sock",
    "x".repeat(8000),
  ])
    it(`may send the :authority ${JSON.stringify(authority.slice(0, 30))}`, async () => {
      await using endpoint = await startEndpoint();
      const session = http2To(endpoint.path);
      const stream = request(session, { ":authority": authority });
      stream.end(EMPTY_MESSAGE);
      const { svids } = await firstMessage(stream);
      assert.equal(svids[0]?.hint, "web");
      session.destroy();
      await until(() => endpoint.metrics.open["workload-api"] === 0);
    });

  it("that sends an invalid :authority or :path harms nobody", async () => {
    await using endpoint = await startEndpoint();
    for (const odd of [
      { ":authority": "a b" },
      { ":authority": "/run/web.sock" },
      { ":path": "*" },
    ]) {
      const session = http2To(endpoint.path);
      const stream = request(session, odd);
      // An answer comes, or the stream is reset.
      await new Promise((resolve) =>
        stream.once("data", resolve).once("close", resolve).end(EMPTY_MESSAGE),
      );
      session.destroy();
    }
    await stillServes(endpoint);
  });

  it("gets Unimplemented for an unknown service, however it is written", async () => {
    await using endpoint = await startEndpoint();
    const session = http2To(endpoint.path);
    for (const path of ["/Unknown/Call", "/", '/\u00fc%"x', "/spiffeworkloadapi/FetchX509SVID"]) {
      const stream = request(session, { ":path": path });
      const headers = headersOf(stream);
      stream.end(EMPTY_MESSAGE);
      assert.equal(Number((await headers)["grpc-status"]), status.UNIMPLEMENTED, path);
    }
    session.destroy();
    await stillServes(endpoint);
  });

  it("is refused without gRPC's content type", async () => {
    await using endpoint = await startEndpoint();
    const session = http2To(endpoint.path);
    const stream = request(session, { "content-type": "application/json" });
    let octets = 0;
    stream.on("data", (chunk: Buffer) => {
      octets += chunk.length;
    });
    const ended = new Promise((resolve) => stream.once("close", resolve));
    const headers = headersOf(stream);
    stream.end(EMPTY_MESSAGE);
    // Deno sends every status as 200.
    assert.equal((await headers)[":status"], "Deno" in globalThis ? 200 : 415);
    await ended;
    assert.equal(octets, 0);
    assert.equal(endpoint.metrics.open["workload-api"], undefined);
    session.destroy();
  });

  it("is refused with a second header of the same name", async () => {
    await using endpoint = await startEndpoint();
    const session = http2To(endpoint.path);
    const stream = request(session, { "workload.spiffe.io": ["true", "true"] });
    const headers = headersOf(stream);
    stream.end(EMPTY_MESSAGE);
    assert.equal(Number((await headers)["grpc-status"]), status.INVALID_ARGUMENT);
    session.destroy();
  });

  it("cannot make the server read a request without bounds", async () => {
    await using endpoint = await startEndpoint();
    const session = http2To(endpoint.path);
    const stream = request(session, {
      ":path": "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    });
    const headers = headersOf(stream);
    const tooLong = Buffer.alloc(5);
    tooLong.writeUInt32BE(513 * 1024, 1);
    stream.write(tooLong);
    assert.equal(Number((await headers)["grpc-status"]), status.RESOURCE_EXHAUSTED);
    session.destroy();
    await stillServes(endpoint);
  });

  it("gets an error for a message that cannot be decoded", async () => {
    await using endpoint = await startEndpoint();
    const session = http2To(endpoint.path);
    const stream = request(session, {
      ":path": "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    });
    const headers = headersOf(stream);
    stream.write(Buffer.from([0, 0, 0, 0, 3, 0xff, 0xff, 0xff]));
    assert.equal(Number((await headers)["grpc-status"]), status.INTERNAL);
    session.destroy();
    await until(() => endpoint.metrics.open.sds === 0);
  });

  it("with 200 KB of metadata is refused, and harms nobody", async () => {
    await using endpoint = await startEndpoint();
    const session = http2To(endpoint.path);
    const large = Object.fromEntries(
      Array.from({ length: 25 }, (_, i) => [`x-large-${i}`, "x".repeat(8000)]),
    );
    const ended = new Promise((resolve) => {
      session.once("close", resolve);
      session.once("error", resolve);
      request(session, large).once("close", resolve).end(EMPTY_MESSAGE);
    });
    await ended;
    session.destroy();
    await stillServes(endpoint);
    await until(() => endpoint.metrics.open["workload-api"] === 0);
  });
});

describe("a client that does not read", () => {
  it("has one message on its way, and then gets the newest", async () => {
    await using endpoint = await startEndpoint();
    const { set, path, metrics } = endpoint;
    const [web] = set.workloads;
    const first = web?.svid.current;
    assert.ok(web !== undefined && first !== null && first !== undefined);
    const client = new RawRequest(path, "/SpiffeWorkloadAPI/FetchX509SVID", 100);
    await until(() => client.received === 100);
    const last = 500;
    for (let i = 1; i <= last; i++) {
      web.svid.set({ ...first, privateKey: new Uint8Array(1000 + i) });
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(client.received, 100);
    client.open(1_000_000);
    const keys = () =>
      client.messages.map((message) => {
        const { svids } = messageType("X509SVIDResponse").deserialize(message) as SvidMessage;
        return svids[0]?.x509SvidKey.length;
      });
    await until(() => keys().at(-1) === 1000 + last);
    // What was on its way, the newest, and on some runtimes one that was taken before.
    assert.ok(keys().length <= 3, String(keys()));
    assert.equal(keys()[0], first.privateKey.length);
    client.close();
    await until(() => metrics.open["workload-api"] === 0);
  });
});

describe("something else than a gRPC client", () => {
  for (const [what, octets] of [
    ["HTTP/1.1", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ["TLS", Buffer.from("160301020001000100", "hex")],
    ["zeros", Buffer.alloc(100_000)],
    ["a frame that is too large", Buffer.concat([Buffer.from(PREFACE), Buffer.alloc(9, 0xff)])],
    [
      "garbage after the preface",
      Buffer.concat([
        Buffer.from(PREFACE),
        Buffer.from("00000604000000000000030000ffff", "hex"),
        Buffer.alloc(5000, 0x42),
      ]),
    ],
  ] as const)
    it(`is cut off: ${what}`, async () => {
      await using endpoint = await startEndpoint();
      await sendRaw(endpoint.path, octets);
      await stillServes(endpoint);
    });

  it("that connects and sends nothing, or goes away half-way, harms nobody", async () => {
    await using endpoint = await startEndpoint();
    const sockets = Array.from({ length: 50 }, (_, i) => {
      const socket = connect(endpoint.path);
      socket.on("error", () => undefined);
      if (i % 2 === 0) socket.write(PREFACE.slice(0, 10));
      return socket;
    });
    await stillServes(endpoint);
    for (const socket of sockets) socket.destroy();
    await stillServes(endpoint);
  });

  it("that closes its side of the connection loses its streams", async () => {
    await using endpoint = await startEndpoint();
    const socket = connect(endpoint.path);
    const session = connectHttp2("http://localhost", { createConnection: () => socket });
    session.on("error", () => undefined);
    const stream = request(session);
    stream.end(EMPTY_MESSAGE);
    await firstMessage(stream);
    assert.equal(endpoint.metrics.open["workload-api"], 1);
    socket.end();
    await until(() => endpoint.metrics.open["workload-api"] === 0);
    session.destroy();
  });
});
