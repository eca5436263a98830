/**
 * Attacks on a real server over bare sockets, each with its source.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { routesOf } from "../../src/http/app.ts";
import { askFor, craftCsr, csrPem, rsaSpki, signedCsr, uriName } from "../core/x509/requests.ts";
import { createTestCa, opensslCsr } from "../fakes/ca.ts";
import { accessThat } from "../fixtures/access.ts";
import { createTestApp } from "../fixtures/app.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";
import { refuses, sign } from "../fixtures/refusals.ts";

const HOST = "Host: localhost\r\n";

/** Sends octets as they are. @returns all that came back until the server closed or fell silent. */
function raw(
  port: number,
  text: string,
  silenceMs = 500,
): Promise<{ text: string; closed: boolean }> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(Buffer.from(text, "latin1")));
    let received = "";
    let timer = setTimeout(() => end(false), 10 * silenceMs);
    const end = (closed: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text: received, closed });
    };
    socket.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
      clearTimeout(timer);
      timer = setTimeout(() => end(false), silenceMs);
    });
    socket.on("end", () => end(true));
    socket.on("error", () => end(true));
  });
}

const answersIn = (text: string) =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status));

describe("attacks", () => {
  let server: ServerProcess;
  let uri = "";
  let csr = "";
  before(async () => {
    server = await startServer({ MESHCA_STORE: "memory:" });
    uri = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`;
    csr = opensslCsr(`URI:${uri}`).csr;
  });
  after(() => server.stop());
  const signs = async () => assert.equal((await send(server.port, sign(csr)))?.status, 200);

  it("CVE-2026-30836: a method or media type that is not handled reaches no handler, on any route", async () => {
    const reached: string[] = [];
    const { manager } = await createTestCa();
    const spied = new Proxy(manager, {
      get(target, name) {
        if (
          ["sign", "configure", "rotate", "rewrap", "resolve", "restore", "requireRoom"].includes(
            String(name),
          )
        )
          reached.push(String(name));
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const test = await createTestApp({
      ca: spied,
      acl: { control: accessThat({ allows: () => true }) },
    });
    for (const { path, methods, kind } of routesOf(test.options, test.app.watchers)) {
      for (const method of ["DELETE", "PATCH", "HEAD", "POST", "PUT", "GET"]) {
        if (Object.hasOwn(methods, method) || (method === "HEAD" && kind === "operations"))
          continue;
        const answer = await test.fetch(path, {
          method,
          ...(/^(HEAD|GET)$/.test(method) ? {} : { body: csr }),
        });
        assert.equal(answer.status, 405, `${method} ${path}`);
      }
      // The backup is read as it is, rewrap reads nothing, and the first token is for somebody on
      // this machine.
      if (
        methods.PUT === undefined ||
        /\/connect\/ca\/(backup|rewrap)$|\/acl\/bootstrap$/.test(path)
      )
        continue;
      for (const type of [
        "text/html",
        "multipart/form-data; boundary=x",
        "application/json5",
        "*/*",
        "application/x-protobuf",
      ]) {
        const answer = await test.fetch(path, {
          method: "PUT",
          body: csr,
          headers: { "Content-Type": type },
        });
        assert.equal(answer.status, 415, `${type} ${path}`);
      }
    }
    assert.deepEqual(
      reached.filter((name) => name !== "requireRoom"),
      [],
    );
  });

  /**
   * A request with a URI that openssl would not write. Its signature is right: whatever is refused
   * is the URI.
   */
  const signedFor = async (...uris: readonly string[]) =>
    csrPem(await signedCsr({ attributes: [askFor(...uris.map(uriName))] }));

  it("a request that is put together and signed as those below are is signed, with the identity as it is written", async () => {
    const answer = await send(server.port, sign(await signedFor(uri)));
    assert.equal(answer?.status, 200);
    assert.equal((JSON.parse(answer?.body ?? "") as { ServiceURI?: string }).ServiceURI, uri);
  });

  const ENCODED =
    "SPIFFE ID must not be percent-encoded: \"URI\"; a path segment has letters, digits, '.', '-' and '_'";
  const UNKNOWN = "SPIFFE ID is not in the expected format: URI";
  const NOT_ASCII = "Cannot read CSR: its subject alternative name is not printable ASCII";
  const DOTS = "is a dot segment, which a SPIFFE ID must not have";
  const paths: readonly (readonly [path: string, says: string])[] = [
    ["/ns/default/dc/dc1/svc/%77eb", ENCODED],
    ["/ns/default/dc/dc1/svc/web%2e", ENCODED],
    ["/ns/default/dc/dc1/svc/%2e%2e/api", ENCODED],
    ["/ns/default/dc/dc1/svc/%2e%2e", ENCODED],
    ["/ns/default/dc/dc1/svc/../svc/api", UNKNOWN],
    ["/ns/default/dc/dc1/svc/./web", UNKNOWN],
    ["/ns/default/dc/dc1/svc/..", `Invalid service: ".." ${DOTS}`],
    ["/ns/default/dc/dc1/svc/.", `Invalid service: "." ${DOTS}`],
    ["/ns/../dc/dc1/svc/web", `Invalid namespace: ".." ${DOTS}`],
    ["/ns/default/dc/./svc/web", `Invalid datacenter: "." ${DOTS}`],
    ["/ns/default/dc/dc1/svc/web%2Fapi", ENCODED],
    ["/ns/default/dc/dc1/svc/web%2fapi", ENCODED],
    ["/ns/default/dc/dc1/svc/web%252F", ENCODED],
    ["/ns/default/dc/dc1/svc/web%00", ENCODED],
    ["/ns/default/dc/dc1/svc/web\u0000api", NOT_ASCII],
    ["/ns/default/dc/dc1/svc/w\u0435b", NOT_ASCII],
    ["/ns/default/dc/dc1/svc/web\u200b", NOT_ASCII],
    ["/ns/default/dc/dc1/svc/\uff57eb", NOT_ASCII],
    ["/ns/default/dc/dc1/svc/web/", UNKNOWN],
    ["/ns/default/dc/dc1/svc//web", UNKNOWN],
    ["//ns/default/dc/dc1/svc/web", UNKNOWN],
    ["/ns/default/dc/dc1/svc/web?x", UNKNOWN],
    ["/ns/default/dc/dc1/svc/web#x", UNKNOWN],
    ["/ns/default/dc/dc1/svc/web\\api", UNKNOWN],
    ["/ns/default/dc/dc1/svc/web api", UNKNOWN],
    [
      "/ns/default/dc/dc1/svc/web:api",
      `Invalid service: "web:api" has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed`,
    ],
    ["/NS/default/dc/dc1/svc/web", UNKNOWN],
    ["/ns/default/DC/dc1/svc/web", UNKNOWN],
    ["/ns/default/dc/dc1/SVC/web", UNKNOWN],
    ["/ns/default/dc/dc1/%73vc/web", ENCODED],
    [
      "/ap/default/ns/default/dc/dc1/svc/web",
      'Invalid admin partition: "default" is not named in a SPIFFE ID; leave "/ap/default" out',
    ],
  ];
  for (const [path, says] of paths)
    it(`GHSA-m69r-9g56-7mv8: another spelling of a path is refused as SPIFFE ID: ${JSON.stringify(path)}`, async () => {
      const written = `spiffe://${server.trustDomain}${path}`;
      await refuses(
        server,
        sign(await signedFor(written)),
        400,
        says.replace("URI", () => written),
      );
    });

  it("GHSA-m69r-9g56-7mv8: two URI names are refused, also if both are the same", async () => {
    for (const other of [uri, uri.replace("web", "api")])
      for (const asked of [opensslCsr(`URI:${uri},URI:${other}`).csr, await signedFor(uri, other)])
        await refuses(server, sign(asked), 400, "CSR SAN contains an invalid number of URIs: 2");
  });

  it("no case, second slash, encoded slash or double encoding makes another path one of a route", async () => {
    for (const target of [
      "/v1/connect/ca/sign%2f",
      "/v1/connect/ca%2fsign",
      "/v1/connect/ca/%2573ign",
      "/V1/connect/ca/sign",
      "/v1/connect/ca/SIGN",
      "/v1/connect/ca/sign;x",
      "/v1/connect/ca/sign%20",
    ])
      assert.equal(
        (await send(server.port, { method: "PUT", target, body: csr }))?.status,
        404,
        target,
      );
    // Redirected as by Consul, to a path of ours: no other host, no scheme.
    for (const [target, location] of [
      ["/v1//connect/ca/sign", "/v1/connect/ca/sign"],
      ["//v1/connect/ca/sign", "/v1/connect/ca/sign"],
      ["//evil.example/x", "/evil.example/x"],
      ["///evil.example", "/evil.example"],
      ["/x:///v1/connect/ca/sign", "/x:/v1/connect/ca/sign"],
    ] as const) {
      const answer = await send(server.port, { method: "PUT", target, body: csr });
      assert.deepEqual(
        [answer?.status, answer?.header("Location"), answer?.body],
        [301, location, ""],
        target,
      );
    }
  });

  const INNER = `GET /v1/connect/ca/roots HTTP/1.1\r\n${HOST}\r\n`;
  const put = (headers: string, body: string) =>
    `PUT /v1/connect/ca/sign HTTP/1.1\r\n${HOST}${headers}\r\n\r\n${body}`;
  const chunked = "Transfer-Encoding: chunked";
  const smuggled: readonly (readonly [string, string])[] = [
    [
      "Content-Length and Transfer-Encoding",
      put(`Content-Length: 5\r\n${chunked}`, `0\r\n\r\n${INNER}`),
    ],
    [
      "Transfer-Encoding and Content-Length",
      put(`${chunked}\r\nContent-Length: 5`, `0\r\n\r\n${INNER}`),
    ],
    ["two lengths", put("Content-Length: 5\r\nContent-Length: 0", `hello${INNER}`)],
    ["a list of lengths", put("Content-Length: 5, 5", `hello${INNER}`)],
    ["a length with a sign", put("Content-Length: +5", `hello${INNER}`)],
    ["a length below zero", put("Content-Length: -5", `hello${INNER}`)],
    ["a length in hex", put("Content-Length: 0x5", `hello${INNER}`)],
    ["a length beyond 64 bits", put("Content-Length: 18446744073709551621", `hello${INNER}`)],
    ["an empty length", put("Content-Length: ", INNER)],
    ["an unknown coding", put("Transfer-Encoding: xchunked", `0\r\n\r\n${INNER}`)],
    ["identity", put("Transfer-Encoding: identity", INNER)],
    ["a coding before chunked", put("Transfer-Encoding: gzip, chunked", `0\r\n\r\n${INNER}`)],
    ["a coding behind chunked", put("Transfer-Encoding: chunked, identity", `0\r\n\r\n${INNER}`)],
    ["two codings", put(`${chunked}\r\nTransfer-Encoding: identity`, `0\r\n\r\n${INNER}`)],
    ["a space before the colon", put("Transfer-Encoding : chunked", `0\r\n\r\n${INNER}`)],
    [
      "a vertical tab before the coding",
      put("Transfer-Encoding: \u000bchunked", `0\r\n\r\n${INNER}`),
    ],
    ["obs-fold", put("Transfer-Encoding:\r\n chunked", `0\r\n\r\n${INNER}`)],
    [
      "obs-fold in another header",
      `GET /v1/connect/ca/roots HTTP/1.1\r\n${HOST}X: a\r\n b\r\n\r\n`,
    ],
    [
      "a space before the first header",
      `GET /v1/connect/ca/roots HTTP/1.1\r\n X: a\r\n${HOST}\r\n`,
    ],
    ["a bare LF behind the request line", `GET /v1/connect/ca/roots HTTP/1.1\n${HOST}\r\n`],
    ["a bare LF in the head", `GET /v1/connect/ca/roots HTTP/1.1\r\n${HOST}X: a\nY: b\r\n\r\n`],
    ["bare LFs only", "GET /v1/connect/ca/roots HTTP/1.1\nHost: localhost\n\n"],
    ["a bare CR in the head", `GET /v1/connect/ca/roots HTTP/1.1\r\n${HOST}X: a\rY: b\r\n\r\n`],
    ["NUL in a header", `GET /v1/connect/ca/roots HTTP/1.1\r\n${HOST}X: a\0b\r\n\r\n`],
    ["a header without a colon", `GET /v1/connect/ca/roots HTTP/1.1\r\n${HOST}X\r\n\r\n`],
    ["a chunk size below zero", put(chunked, `-1\r\nx\r\n0\r\n\r\n${INNER}`)],
    ["a chunk size beyond 64 bits", put(chunked, `FFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n${INNER}`)],
    ["a chunk longer than it says", put(chunked, `1\r\nxx0\r\n\r\n${INNER}`)],
    ["chunks that end with a bare LF", put(chunked, `1\nx\n0\n\n${INNER}`)],
    ["HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ["a version of its own", `GET /v1/connect/ca/roots HTTP/9.9\r\n${HOST}\r\n`],
    ["no Host", "GET /v1/connect/ca/roots HTTP/1.1\r\n\r\n"],
    ["two Hosts", `GET /v1/connect/ca/roots HTTP/1.1\r\n${HOST}Host: evil\r\n\r\n`],
    [
      "another Host than in the target",
      "GET http://localhost/v1/connect/ca/roots HTTP/1.1\r\nHost: evil\r\n\r\n",
    ],
    ["an unknown method", `BREW /v1/connect/ca/roots HTTP/1.1\r\n${HOST}\r\n`],
    ["a method in small letters", `get /v1/connect/ca/roots HTTP/1.1\r\n${HOST}\r\n`],
    ["TRACE", `TRACE /v1/connect/ca/roots HTTP/1.1\r\n${HOST}\r\n`],
    ["CONNECT", `CONNECT localhost:8500 HTTP/1.1\r\n${HOST}\r\n`],
    ["HTTP/1.1 without a Host", "GET /v1/connect/ca/roots HTTP/1.1\r\n\r\n"],
  ];
  for (const [name, text] of smuggled)
    it(`RFC 9112 §11.2, smuggling: ${name} is refused, and nothing behind it is answered`, async () => {
      const answer = await raw(server.port, text);
      const statuses = answersIn(answer.text);
      assert.ok(
        statuses.length <= 1 && statuses.every((status) => status >= 400),
        `answered ${statuses.join()}`,
      );
    });

  it("RFC 9112 §6.3: a length that is sent twice is refused even if both agree", async () => {
    const answer = await raw(server.port, put("Content-Length: 5\r\nContent-Length: 5", "hello"));
    assert.match(answer.text, /^HTTP\/1\.1 400 [\s\S]*Content-Length must be one number/);
  });

  it("a body that a route does not read is not taken for the next request", async () => {
    const answer = await raw(
      server.port,
      `GET /v1/connect/ca/roots HTTP/1.1\r\n${HOST}Content-Length: ${INNER.length}\r\n\r\n${INNER}GET /nosuch HTTP/1.1\r\n${HOST}\r\n`,
    );
    assert.deepEqual(answersIn(answer.text), [200, 404]);
  });

  it("CORS: no origin is allowed anything, not even to ask", async () => {
    for (const method of ["OPTIONS", "GET"]) {
      const headers = { Origin: "https://evil.example", "Access-Control-Request-Method": "PUT" };
      const answer = await send(server.port, {
        method,
        target: "/v1/connect/ca/configuration",
        headers,
      });
      assert.deepEqual(
        answer?.headers.filter(([name]) => /^access-control/i.test(name)),
        [],
      );
      assert.equal(answer?.header("X-Content-Type-Options"), "nosniff");
    }
  });

  it("log injection: what a client sends makes no line of its own in the log, at any level", async () => {
    const noisy = await startServer({
      MESHCA_STORE: "memory:",
      MESHCA_LOG_LEVEL: "debug",
      MESHCA_AUDIT: "stdout",
    });
    const evil = '{"level":"ERROR","message":"forged","kind":"audit"}';
    const name = `spiffe://${noisy.trustDomain}/ns/default/dc/dc1/svc/web\r\n${evil}\n\u2028\u001b[2J`;
    const refused = await send(noisy.port, sign(await signedFor(name)));
    assert.deepEqual([refused?.status, refused?.body], [400, NOT_ASCII]);
    await send(noisy.port, {
      method: "GET",
      target: `/v1/%0a${encodeURIComponent(evil)}`,
      headers: { "User-Agent": evil },
    });
    await send(noisy.port, {
      method: "PUT",
      target: "/v1/connect/ca/sign",
      body: evil,
      headers: { "Content-Type": evil },
    });
    await send(noisy.port, {
      method: "GET",
      target: `/v1/connect/ca/roots?dc=%0a${encodeURIComponent(evil)}`,
    });
    const { stdout } = await noisy.stop();
    const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
    assert.ok(lines.length > 4);
    for (const line of lines)
      assert.notEqual((JSON.parse(line) as { message?: string }).message, "forged");
    assert.doesNotMatch(stdout.replaceAll("\n", ""), /[^\u0020-\u007e]/);
  });

  it("CVE-2023-29409: RSA keys with huge exponents by the thousand are refused, and others are served concurrently", async () => {
    const exponents = [
      Array.from({ length: 256 }, () => 0xff),
      Array.from({ length: 8 }, () => 0xff),
      [3],
      [1],
      [1, 0, 3],
    ];
    const bad = [2048, 4096, 8192, 16_384].flatMap((bits) =>
      exponents.map((exponent) =>
        csrPem(
          craftCsr({
            spki: rsaSpki(bits, exponent),
            scheme: "rsaSha256",
            attributes: [askFor(uriName(uri))],
          }),
        ),
      ),
    );
    let flooding = true;
    const counts = new Map<number | undefined, number>();
    const reasons = new Set<string | undefined>();
    const flood = Array.from({ length: 16 }, async (_, lane) => {
      for (let i = lane; flooding && i < 5000; i += 16) {
        const answer = await send(server.port, sign(bad[i % bad.length] ?? ""));
        counts.set(answer?.status, (counts.get(answer?.status) ?? 0) + 1);
        reasons.add(answer?.body);
      }
    });
    const refused = () => counts.get(400) ?? 0;
    for (let i = 0; i < 40 || (refused() <= 100 && counts.size < 2); i++) await signs();
    flooding = false;
    await Promise.all(flood);
    assert.deepEqual([...counts.keys()], [400]);
    // Each for its key, before anything is computed with it: their signatures would be refused in
    // other words.
    assert.deepEqual(
      [...reasons].toSorted((a, b) => ((a ?? "") < (b ?? "") ? -1 : 1)),
      [
        "Cannot read CSR: RSA key must have 2048, 3072 or 4096 bits, this one has 16384",
        "Cannot read CSR: RSA key must have 2048, 3072 or 4096 bits, this one has 8192",
        "Cannot read CSR: RSA key must have the public exponent 65537",
      ],
    );
  });

  it("10,000 idle connections leave the server to others", async () => {
    // Fewer if either process is not allowed so many open files.
    const files = Number(
      /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1],
    );
    const count = Math.min(10_000, files - 500);
    const idle: Socket[] = [];
    let refused = 0;
    try {
      for (let opened = 0; opened < count; opened += 250)
        await Promise.all(
          Array.from(
            { length: 250 },
            () =>
              new Promise<void>((resolve) => {
                const socket = connect(server.port, "127.0.0.1", resolve);
                socket.on("error", () => {
                  refused++;
                  resolve();
                });
                idle.push(socket);
              }),
          ),
        );
      for (let i = 0; i < 20; i++) {
        await signs();
        assert.equal(
          (await send(server.port, { method: "GET", target: "/v1/connect/ca/roots" }))?.status,
          200,
        );
      }
      assert.equal(refused, 0);
    } finally {
      for (const socket of idle) socket.destroy();
    }
  });

  it("the server signs as before after all of that", async () => {
    await signs();
    assert.equal(server.stderr(), "");
  });
});
