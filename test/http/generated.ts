/**
 * Requests made up: from valid ones of every route, damaged in their parts, as JSON and octet by
 * octet; and what must hold of the answer to each, whatever it is.
 * @module
 */
import { connect } from "node:net";
import fc from "fast-check";

/** A valid request. */
export interface Seed {
  readonly method: string;
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A request as it goes over the wire. */
export interface Made {
  readonly head: string;
  readonly body: Buffer;
}

export interface Received {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/**
 * Longer than what the server itself gives a head, a body or a silent connection that is not
 * complete, in milliseconds.
 */
const HANG_MS = 20_000;

/**
 * Sends octets, and reads until the server closes.
 * @returns null if it closed without an answer.
 * @throws if it hangs
 */
export function exchange(port: number, { head, body }: Made): Promise<Received | null> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = connect(port, "127.0.0.1");
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error("The server hangs"));
    }, HANG_MS);
    const finish = () => {
      clearTimeout(timer);
      socket.destroy();
      const received = finalOf(chunks);
      resolve(received.length === 0 ? null : readAnswer(received));
    };
    socket.on("connect", () => {
      socket.write(Buffer.concat([Buffer.from(head, "latin1"), body]));
    });
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      // A connection that stays open after its answer was not asked to be closed in a way that the
      // server understood.
      if (isComplete(finalOf(chunks))) finish();
    });
    socket.on("end", finish);
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNRESET" || error.code === "EPIPE") return finish();
      clearTimeout(timer);
      reject(error);
    });
  });
}

const CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n";

/** What came without the answer before the answer (RFC 9110 §15.2.1). */
function finalOf(chunks: readonly Buffer[]): Buffer {
  const received = Buffer.concat(chunks);
  return received.subarray(received.toString("latin1").startsWith(CONTINUE) ? CONTINUE.length : 0);
}

function isComplete(received: Buffer): boolean {
  const end = received.indexOf("\r\n\r\n");
  if (end < 0) return false;
  const head = received.subarray(0, end).toString("latin1");
  const length = /^content-length: *(\d+)/im.exec(head)?.[1];
  if (length !== undefined) return received.length >= end + 4 + Number(length);
  return (
    /^transfer-encoding: *chunked/im.test(head) &&
    received.subarray(-5).toString("latin1") === "0\r\n\r\n"
  );
}

function readAnswer(received: Buffer): Received {
  const end = received.indexOf("\r\n\r\n");
  const [line = "", ...lines] = received.subarray(0, end).toString("latin1").split("\r\n");
  const headers = new Map(
    lines.map((text) => {
      const colon = text.indexOf(":");
      return [text.slice(0, colon).toLowerCase(), text.slice(colon + 1).trim()] as const;
    }),
  );
  return {
    status: Number(line.split(" ")[1]),
    headers,
    body: received.subarray(end + 4).toString("utf8"),
  };
}

const odd = fc.oneof(
  fc.constantFrom(
    "__proto__",
    "constructor",
    "toString",
    "",
    "\u0000",
    "..",
    "%2e%2e",
    "%",
    "%00",
    "\u202e",
    "é",
    "/",
    "//",
    "*",
    "-1",
    "1e999",
  ),
  fc.constantFrom(
    "9".repeat(400),
    "a".repeat(3000),
    ["$", "{value.name}"].join(""),
    "<script>",
    "\r\nX-Injected: 1",
    "99999999999999999999h",
    "🙂",
  ),
  fc.string({ maxLength: 40, unit: "binary" }),
  fc.string({ maxLength: 20 }),
);
const oddValue = fc.oneof(
  odd,
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(
    null,
    true,
    0,
    -1,
    2 ** 53,
    1e308,
    [],
    {},
    [[]],
    [null],
    [{}],
    "0s",
    "1ns",
    "87600h",
  ),
);

/** One change of a JSON text, or the text itself if it is not JSON. */
const jsonChange = fc.record({ at: fc.nat(), how: fc.nat(4), key: odd, value: oddValue });
function changeJson(
  text: string,
  { at, how, key, value }: { at: number; how: number; key: string; value: unknown },
): string {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return text;
  }
  const places: { readonly of: Record<string, unknown>; readonly key: string }[] = [];
  const walk = (node: unknown) => {
    if (typeof node !== "object" || node === null) return;
    for (const name of Object.keys(node)) {
      places.push({ of: node as Record<string, unknown>, key: name });
      walk((node as Record<string, unknown>)[name]);
    }
  };
  walk(json);
  const place = places[at % Math.max(1, places.length)];
  if (place === undefined || how === 0)
    return JSON.stringify(how === 0 && place === undefined ? value : [json]);
  if (how === 1) place.of[place.key] = value;
  else if (how === 2) delete place.of[place.key];
  else if (how === 3)
    Object.defineProperty(place.of, key, {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    });
  else {
    // Twice the same key, which no object can have.
    const whole = JSON.stringify(json);
    return whole.replace(
      `${JSON.stringify(place.key)}:`,
      `${JSON.stringify(place.key)}:${JSON.stringify(value) ?? "null"},${JSON.stringify(place.key)}:`,
    );
  }
  return JSON.stringify(json);
}

const octetChange = fc.record({
  at: fc.nat(),
  how: fc.nat(4),
  octets: fc.uint8Array({ maxLength: 8 }),
  length: fc.nat(64),
});
function changeOctets(
  body: Buffer,
  { at, how, octets, length }: { at: number; how: number; octets: Uint8Array; length: number },
): Buffer {
  const from = at % (body.length + 1);
  const [before, rest] = [body.subarray(0, from), body.subarray(from)];
  if (how === 0) return before;
  if (how === 1) return Buffer.concat([before, octets, rest]);
  if (how === 2) return Buffer.concat([before, octets, rest.subarray(octets.length)]);
  if (how === 3) return Buffer.concat([before, rest.subarray(length)]);
  return Buffer.concat([before, rest.subarray(0, length), rest]);
}

const headChange = fc.oneof(
  fc.record({
    kind: fc.constant("method" as const),
    text: fc.oneof(
      fc.constantFrom("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "get"),
      odd,
    ),
  }),
  fc.record({ kind: fc.constant("segment" as const), at: fc.nat(), text: odd }),
  fc.record({
    kind: fc.constant("query" as const),
    text: fc
      .tuple(
        fc.constantFrom(
          "index",
          "dc",
          "pretty",
          "pem",
          "token",
          "authmethod",
          "force",
          "ns",
          "consistent",
          "stale",
          "cached",
        ),
        odd,
      )
      .map((pair) => pair.join("=")),
  }),
  fc.record({ kind: fc.constant("query" as const), text: odd }),
  fc.record({
    kind: fc.constant("header" as const),
    name: fc.constantFrom(
      "Content-Type",
      "Content-Encoding",
      "Accept",
      "Accept-Encoding",
      "Authorization",
      "X-Consul-Token",
      "Host",
      "Transfer-Encoding",
      "Content-Length",
      "Expect",
      "Cache-Control",
      "X-Forwarded-For",
      "Upgrade",
      "Range",
    ),
    text: fc.oneof(
      odd,
      fc.constantFrom(
        "application/json",
        "text/plain",
        "chunked",
        "0",
        "gzip",
        "100-continue",
        "Bearer ",
        "bytes=0-1",
        "max-age=1",
        "websocket",
      ),
    ),
  }),
);

/**
 * What a client may present: nothing, a token with all rights, one with few rights, and
 * an invalid one.
 */
export type Credentials = readonly Readonly<Record<string, string>>[];

/** Requests from seeds. Most are damaged once or twice, some not at all. */
export function requestsFrom(
  seeds: readonly Seed[],
  credentials: Credentials,
  host: string,
): fc.Arbitrary<Made> {
  const times = <T>(change: fc.Arbitrary<T>, most: number) =>
    fc.oneof(
      { arbitrary: fc.constant<T[]>([]), weight: 2 },
      { arbitrary: fc.array(change, { minLength: 1, maxLength: most }), weight: 1 },
    );
  return fc
    .record({
      seed: fc.constantFrom(...seeds),
      // Null: what the seed itself has.
      credential: fc.oneof(
        { arbitrary: fc.constant(null), weight: 2 },
        { arbitrary: fc.constantFrom(...credentials), weight: 1 },
      ),
      heads: times(headChange, 2),
      jsons: times(jsonChange, 3),
      octets: times(octetChange, 2),
    })
    .map(({ seed, credential, heads, jsons, octets }) => {
      let { method, target } = seed;
      const headers: [string, string][] = Object.entries({
        Host: host,
        Connection: "close",
        ...(credential === null ? seed.headers : credential),
      });
      const text = jsons.reduce(changeJson, seed.body);
      const body = octets.reduce(changeOctets, Buffer.from(text));
      for (const change of heads) {
        if (change.kind === "method") method = change.text;
        else if (change.kind === "query")
          target += `${target.includes("?") ? "&" : "?"}${change.text}`;
        else if (change.kind === "header") headers.push([change.name, change.text]);
        else {
          const segments = target.split("/");
          segments[change.at % segments.length] = change.text;
          target = segments.join("/");
        }
      }
      if (body.length > 0 && method !== "GET")
        headers.push(["Content-Length", String(body.length)]);
      const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
      return {
        head: `${method} ${target} HTTP/1.1\r\n${lines}\r\n`,
        body: method === "GET" ? Buffer.alloc(0) : body,
      };
    });
}

const TYPES = [
  "application/json",
  "application/pem-certificate-chain",
  "application/octet-stream",
  "text/plain",
];

/** What the runtime refuses by itself. */
const RUNTIME = [400, 413, 431, 505];

/** What is wrong with an answer, or null. */
export function faultOf({ status, headers, body }: Received): string | null {
  // 505 is the runtime's, for a request line that it cannot read (RFC 9112 §2.3).
  if (!Number.isInteger(status) || status < 200 || (status >= 500 && status !== 505))
    return `it answered ${status}: ${body.slice(0, 300)}`;
  const type = headers.get("content-type")?.split(";")[0];
  // What the runtime refuses by itself has neither a type nor a header of ours.
  if (type === undefined)
    return body === "" || RUNTIME.includes(status)
      ? null
      : `its ${status} has a body without a type: ${body.slice(0, 300)}`;
  // The redirect of a path with two slashes has a page, as that of net/http in Go.
  if (!TYPES.includes(type) && !(status === 301 && type === "text/html"))
    return `its ${status} is ${type}`;
  if (headers.get("x-content-type-options") !== "nosniff") return `its ${status} lacks nosniff`;
  if (status >= 400 && type !== "text/plain") return `its ${status} is ${type}`;
  if (headers.has("x-injected")) return "a header was injected";
  if (
    type !== "application/json" ||
    headers.get("content-encoding") === "gzip" ||
    headers.get("transfer-encoding") === "chunked"
  )
    return null;
  try {
    JSON.parse(body);
    return null;
  } catch {
    return `its JSON cannot be read: ${body.slice(0, 300)}`;
  }
}
