/**
 * Timeouts of a connection that sends nothing, or sends too slowly, on every server runtime, with
 * TLS and without: no client keeps a connection without a request.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { connect as connectTls } from "node:tls";
import { makeDataDir, type ServerProcess, startServer } from "../fixtures/process.ts";
import { COMMANDS } from "./targets.ts";

/**
 * Within so many seconds the first head is complete, or the connection is closed; the rest of the
 * minute, after which a runtime may close it by itself, is left for a slow machine.
 */
const [HEAD_SECONDS, SLACK] = [12, 48];
/** Octets of a head are sent as often, in milliseconds. */
const DRIP_MS = 500;
const HEAD = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n";

interface Peer {
  readonly name: "bun" | "node" | "deno";
  readonly secure: boolean;
  readonly server: ServerProcess;
}
const named = ({ name, secure }: Peer) => `${name} with ${secure ? "TLS" : "plain HTTP"}`;

interface Held {
  readonly seconds: number;
  readonly received: string;
}

let peers: readonly Peer[] = [];
before(async () => {
  peers = await Promise.all(
    (["bun", "node", "deno"] as const).flatMap((name) =>
      [false, true].map(async (secure) => {
        const dataDir = makeDataDir();
        const settings = { MESHCA_DATA_DIR: dataDir, ...(secure ? { MESHCA_TLS: "self" } : {}) };
        return { name, secure, server: await startServer(settings, [], COMMANDS[name](dataDir)) };
      }),
    ),
  );
});
after(async () => {
  for (const { server } of peers) {
    await server.stop();
    rmSync(server.dataDir, { recursive: true, force: true });
  }
});

/** A connection; `tcp` does no handshake even if the server expects one. */
function open({ secure, server }: Peer, protocol: "tcp" | "http/1.1" | "h2"): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const { port } = server;
    const socket: Socket =
      secure && protocol !== "tcp"
        ? connectTls(
            { port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: [protocol] },
            () => resolve(socket),
          )
        : connectTcp(port, "127.0.0.1", () => resolve(socket));
    socket.once("error", reject);
  });
}

/** What comes over a connection until the server closes it, and how long that takes. */
function held(socket: Socket): Promise<Held> {
  return new Promise((resolve) => {
    const started = performance.now();
    let received = "";
    socket
      .on("error", () => undefined)
      .on("data", (chunk: Buffer) => {
        received += chunk.toString("latin1");
      });
    socket.once("close", () =>
      resolve({ seconds: (performance.now() - started) / 1000, received }),
    );
  });
}

function drip(socket: Socket): void {
  const timer = setInterval(() => socket.writable && socket.write("x"), DRIP_MS);
  socket.once("close", () => clearInterval(timer));
}

/** What a server answers to a text over a connection that it closes. */
async function exchange(peer: Peer, text: string): Promise<string> {
  const socket = await open(peer, "http/1.1");
  const end = held(socket);
  socket.write(text);
  return (await end).received;
}

describe("a client that is slow", () => {
  it(`is cut off after ${HEAD_SECONDS} s: silent, in its handshake, after it, and with a head that drips`, {
    timeout: 120_000,
  }, async () => {
    const cut = async (
      peer: Peer,
      what: string,
      protocol: "tcp" | "http/1.1" | "h2",
      text = "",
    ) => {
      const socket = await open(peer, protocol);
      if (text !== "") {
        socket.write(text);
        drip(socket);
      }
      const { seconds, received } = await held(socket);
      assert.ok(
        seconds < HEAD_SECONDS + SLACK,
        `${named(peer)}: ${what} was held for ${seconds.toFixed(1)} s`,
      );
      assert.doesNotMatch(received, /^HTTP\/1\.[01] 200/, named(peer));
    };
    await Promise.all(
      peers.flatMap((peer) => [
        cut(peer, "a silent connection", "tcp"),
        cut(peer, "a head that drips", "http/1.1", `${HEAD}X-Slow: `),
        cut(peer, "a request line that drips", "http/1.1", "GET /"),
        ...(peer.secure
          ? [
              cut(peer, "a silent connection after its handshake", "http/1.1"),
              cut(peer, "a silent connection with HTTP/2", "h2"),
            ]
          : []),
      ]),
    );
  });

  it(`is cut off after ${HEAD_SECONDS} s with a later head that drips, and keeps its connection while it is silent`, {
    timeout: 120_000,
  }, async () => {
    const later = async (peer: Peer) => {
      const [idle, dripping] = [await open(peer, "http/1.1"), await open(peer, "http/1.1")];
      let ended = false;
      const kept = held(idle).then(() => {
        ended = true;
      });
      for (const socket of [idle, dripping]) {
        const answered = new Promise((resolve) => socket.once("data", resolve));
        socket.write(`${HEAD}\r\n`);
        await answered;
      }
      dripping.write(`${HEAD}X-Slow: `);
      drip(dripping);
      const { seconds } = await held(dripping);
      assert.ok(
        seconds < HEAD_SECONDS + SLACK,
        `${named(peer)}: a later head was on its way for ${seconds.toFixed(1)} s`,
      );
      assert.equal(ended, false, `${named(peer)}: a silent connection was closed before idle_time`);
      idle.destroy();
      await kept;
    };
    // Bun's own server gives a later head the time of a silent connection.
    await Promise.all(peers.filter(({ name, secure }) => secure || name !== "bun").map(later));
  });
});

describe("the head of a request", () => {
  for (const [count, status] of [
    [150, 200],
    [201, 431],
    [300, 431],
    [1900, 431],
  ] as const)
    it(`with ${count} headers is answered ${status}`, async () => {
      const more = Array.from({ length: count - 2 }, (_, at) => `h${at}:\r\n`).join("");
      for (const peer of peers) {
        const received = await exchange(peer, `${HEAD}${more}Connection: close\r\n\r\n`);
        assert.match(received, new RegExp(`^HTTP/1\\.[01] ${status} `), named(peer));
      }
    });

  it("of more than 16 KiB is answered 431", async () => {
    for (const peer of peers)
      assert.match(
        await exchange(peer, `${HEAD}X: ${"x".repeat(17 * 1024)}\r\n\r\n`),
        /^HTTP\/1\.[01] 431 /,
        named(peer),
      );
  });

  it("without a Host is answered over HTTP/1.0, and refused over HTTP/1.1", async () => {
    for (const peer of peers) {
      const ask = (version: string) =>
        exchange(peer, `GET /healthz HTTP/${version}\r\nConnection: close\r\n\r\n`);
      assert.match(await ask("1.0"), /^HTTP\/1\.[01] 200 [\s\S]*\r\n\r\nok\n$/, named(peer));
      assert.match(await ask("1.1"), /^HTTP\/1\.1 400 /, named(peer));
    }
  });

  for (const [name, sent, status] of [
    ["that is not HTTP", "GARBAGE\r\n\r\n", 400],
    ["with an unknown method", "FOO / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400],
    ["without a Host", "GET / HTTP/1.1\r\n\r\n", 400],
    [
      "with a length and a coding",
      "PUT / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400,
    ],
    [
      "with an unknown expectation",
      "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: x\r\nConnection: close\r\n\r\n",
      417,
    ],
    ["that is too long", `${HEAD}X: ${"x".repeat(17 * 1024)}\r\n\r\n`, 431],
  ] as const)
    it(`${name} is refused with an X-Request-Id, but by Bun's and Deno's own code`, async () => {
      // Bun's server for plain HTTP answers these by itself, and so does Deno's node:http.
      for (const peer of peers.filter(
        ({ name, secure }) => name === "node" || (name === "bun" && secure),
      )) {
        const received = await exchange(peer, sent);
        assert.match(received, new RegExp(`^HTTP/1\\.1 ${status} `), named(peer));
        assert.match(received, /\r\nX-Request-Id: [0-9a-f-]{36}\r\n/i, named(peer));
      }
    });
});
