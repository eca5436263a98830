/**
 * An HTTP/1.1 client over a bare socket: what is sent is what the test says, and answers are shown
 * as they came, with the spelling of their headers.
 * @module
 */
import { connect, type Socket } from "node:net";
import { gunzipSync } from "node:zlib";

export interface RawRequest {
  readonly method: string;
  /** Path and query, as they go over the wire. */
  readonly target: string;
  /** In addition to Host and Content-Length; a Host here replaces ours. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | undefined;
  /** Sends the body in chunks of this many octets, without its length. */
  readonly chunkSize?: number;
}

export interface RawAnswer {
  readonly status: number;
  /** In the order and spelling of the wire. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
  header(name: string): string | undefined;
}

/** How often a request is sent again whose answer went down with the rest of its body. */
const RESENDS = 5;

/**
 * Sends one request over a connection of its own. A server that answers before it has read the
 * whole body and closes may take its answer back from a client that still writes (RFC 9112 §9.6):
 * then it is asked again.
 * @returns null where the connection was closed without an answer.
 */
export async function send(port: number, request: RawRequest): Promise<RawAnswer | null> {
  for (let left = RESENDS; ; left--)
    try {
      return await sendOnce(port, request);
    } catch (error) {
      if (
        left === 0 ||
        request.body === undefined ||
        !["EPIPE", "ECONNRESET"].includes((error as { code?: string }).code ?? "")
      )
        throw error;
    }
}

function sendOnce(port: number, request: RawRequest): Promise<RawAnswer | null> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    let received = Buffer.alloc(0);
    const finish = (answer: RawAnswer | null) => {
      socket.destroy();
      resolve(answer);
    };
    socket.on("connect", () => write(socket, port, request));
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      const answer = parse(received, request.method);
      if (answer !== null) finish(answer);
    });
    socket.on("end", () => finish(null));
    // A server that refuses a body may cut the connection off after its answer.
    socket.on("error", (error) =>
      received.length > 0 ? finish(parse(received, request.method)) : reject(error),
    );
  });
}

function write(
  socket: Socket,
  port: number,
  { method, target, headers = {}, body, chunkSize }: RawRequest,
): void {
  const bytes = Buffer.from(body ?? "", "utf8");
  const length =
    chunkSize !== undefined
      ? { "Transfer-Encoding": "chunked" }
      : { "Content-Length": String(bytes.length) };
  const all = { Host: `127.0.0.1:${port}`, ...(body === undefined ? {} : length), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`${method} ${target} HTTP/1.1\r\n${lines.join("")}\r\n`);
  if (body === undefined) return;
  if (chunkSize === undefined) socket.write(bytes);
  else {
    for (let at = 0; at < bytes.length; at += chunkSize) {
      const chunk = bytes.subarray(at, at + chunkSize);
      socket.write(`${chunk.length.toString(16)}\r\n`);
      socket.write(chunk);
      socket.write("\r\n");
    }
    socket.write("0\r\n\r\n");
  }
}

/** The answer, or null while some of it is missing. */
function parse(received: Buffer, method: string): RawAnswer | null {
  const end = received.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const [statusLine = "", ...lines] = received.subarray(0, end).toString("latin1").split("\r\n");
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
  const header = (name: string) =>
    headers.find(([other]) => other.toLowerCase() === name.toLowerCase())?.[1];
  const rest = received.subarray(end + 4);
  let body: Buffer | null = Buffer.alloc(0);
  if (method !== "HEAD") {
    if (header("transfer-encoding") === "chunked") body = dechunk(rest);
    else {
      const length = Number(header("content-length") ?? 0);
      body = rest.length < length ? null : rest.subarray(0, length);
    }
  }
  if (body === null) return null;
  const plain = header("content-encoding") === "gzip" ? gunzipSync(body) : body;
  return {
    status: Number(statusLine.split(" ")[1]),
    headers,
    body: plain.toString("utf8"),
    header,
  };
}

function dechunk(data: Buffer): Buffer | null {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const line = data.indexOf("\r\n", at);
    if (line < 0) return null;
    const size = Number.parseInt(data.subarray(at, line).toString("latin1"), 16);
    if (size === 0) return Buffer.concat(parts);
    if (data.length < line + 2 + size + 2) return null;
    parts.push(data.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
}
