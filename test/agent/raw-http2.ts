/**
 * HTTP/2 by hand (RFC 9113), so that a test decides what the client's side of flow control does,
 * whatever the runtime's own client would do.
 * @module
 */
import { connect, type Socket } from "node:net";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/** Types of frames (RFC 9113 section 6). */
const [DATA, HEADERS, SETTINGS, WINDOW_UPDATE] = [0, 1, 4, 8];
const [END_STREAM, END_HEADERS, ACK] = [1, 4, 1];
/** SETTINGS_INITIAL_WINDOW_SIZE. */
const INITIAL_WINDOW = 4;

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Literal fields without indexing and without Huffman coding (RFC 7541 section 6.2.2). */
function fields(headers: Readonly<Record<string, string>>): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat(
    Object.entries(headers).map(([name, value]) =>
      Buffer.concat([Buffer.of(0), text(name), text(value)]),
    ),
  );
}

/** One request of an empty message, whose response is read as far as the windows allow. */
export class RawRequest {
  readonly #socket: Socket;
  #pending = Buffer.alloc(0);
  #body = Buffer.alloc(0);
  /** The gRPC messages that were read. */
  readonly messages: Buffer[] = [];

  /** @param window octets of the response that the server may send before `open`. */
  constructor(path: string, method: string, window: number) {
    this.#socket = connect(path);
    this.#socket.on("error", () => undefined);
    this.#socket.on("data", (data: Buffer) => this.#receive(data));
    const setting = Buffer.alloc(6);
    setting.writeUInt16BE(INITIAL_WINDOW, 0);
    setting.writeUInt32BE(window, 2);
    const headers = {
      ":method": "POST",
      ":scheme": "http",
      ":path": method,
      ":authority": "localhost",
      "content-type": "application/grpc",
      te: "trailers",
      "workload.spiffe.io": "true",
    };
    this.#socket.write(PREFACE);
    this.#socket.write(frame(SETTINGS, 0, 0, setting));
    this.#socket.write(frame(HEADERS, END_HEADERS, 1, fields(headers)));
    this.#socket.write(frame(DATA, END_STREAM, 1, Buffer.alloc(5)));
  }

  /** Octets of the body that were read. */
  get received(): number {
    return this.#body.length + this.messages.reduce((sum, { length }) => sum + length + 5, 0);
  }

  /** Allows the server to send more. */
  open(octets: number): void {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(octets);
    for (const stream of [0, 1]) this.#socket.write(frame(WINDOW_UPDATE, 0, stream, size));
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(data: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, data]);
    while (this.#pending.length >= 9) {
      const end = 9 + this.#pending.readUIntBE(0, 3);
      if (this.#pending.length < end) return;
      const [type, flags] = [this.#pending[3], this.#pending[4] ?? 0];
      if (type === DATA) this.#body = Buffer.concat([this.#body, this.#pending.subarray(9, end)]);
      if (type === SETTINGS && (flags & ACK) === 0)
        this.#socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
      this.#pending = this.#pending.subarray(end);
    }
    while (this.#body.length >= 5 && this.#body.length >= 5 + this.#body.readUInt32BE(1)) {
      const end = 5 + this.#body.readUInt32BE(1);
      this.messages.push(this.#body.subarray(5, end));
      this.#body = this.#body.subarray(end);
    }
  }
}
