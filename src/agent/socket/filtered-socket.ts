/**
 * A connection of a client whose octets pass through a filter before HTTP/2 reads them.
 * @module
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** Changes what a client sends. */
interface Filter {
  push(chunk: Buffer): Buffer;
}

export class FilteredSocket extends Duplex {
  readonly #socket: Socket;

  /** @param socket ends in both directions if the client ends its own. */
  constructor(socket: Socket, filter: Filter) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      const passed = filter.push(chunk);
      if (passed.length > 0 && !this.push(passed)) socket.pause();
    });
    socket.once("end", () => this.push(null));
    socket.once("close", () => this.destroy());
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
