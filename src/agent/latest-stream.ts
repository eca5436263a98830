/**
 * Streams of responses to clients: one message is in flight for each, and a slow client gets the
 * newest one when it has read that, so that it costs no memory.
 * @module
 */
import type { Buffer } from "node:buffer";
import { type ServerDuplexStream, type ServerWritableStream, status } from "@grpc/grpc-js";

/** A call whose responses are encoded messages. */
type StreamingCall = ServerWritableStream<object, Buffer> | ServerDuplexStream<object, Buffer>;

/** Characters of a status text that are sent; a header has at most some kilobytes. */
const MAX_DETAILS = 1000;

/** Streams of one turn of the event loop, so that a change for thousands does not block it. */
const BATCH = 256;

/** The text of a status as a header can have it. */
export function statusText(details: string): string {
  return details.slice(0, MAX_DETAILS).toWellFormed();
}

export class LatestStream {
  readonly #call: StreamingCall;
  readonly #produce: () => Buffer | null;
  #writing = false;
  #dirty = false;
  #ended = false;

  /**
   * @param produce gives the message for the present state, or null if nothing is to be sent; it is
   * called when the client can take it.
   * @param onEnd is called once, after the stream ended or was cancelled.
   */
  constructor(call: StreamingCall, produce: () => Buffer | null, onEnd: () => void) {
    this.#call = call;
    this.#produce = produce;
    let released = false;
    const release = () => {
      this.#ended = true;
      if (!released) onEnd();
      released = true;
    };
    // A cancelled stream has both events, one that ended the second; their order differs by runtime.
    call.once("cancelled", release);
    call.once("close", release);
  }

  /** Whether it was ended or cancelled. */
  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Sends the message for the present state, now or as soon as the client has read the last one. */
  touch(): void {
    this.#dirty = true;
    this.#writeNext();
  }

  /** Ends the stream with a status. */
  end(code: status, details: string): void {
    if (this.#ended) return;
    this.#ended = true;
    if (code === status.OK) this.#call.end();
    else this.#call.emit("error", { code, details: statusText(details) });
  }

  #writeNext(): void {
    if (!this.#dirty || this.#writing || this.#ended) return;
    this.#dirty = false;
    const message = this.#produce();
    if (message === null) return;
    this.#writing = true;
    this.#call.write(message, () => {
      this.#writing = false;
      this.#writeNext();
    });
  }
}

/** The open streams of one kind. */
export class StreamGroup {
  readonly #streams = new Set<LatestStream>();

  add(stream: LatestStream): void {
    this.#streams.add(stream);
  }

  delete(stream: LatestStream): void {
    this.#streams.delete(stream);
  }

  /** Touches every stream that is open now. */
  touchAll(): void {
    const streams = [...this.#streams];
    const next = (start: number) => {
      for (const stream of streams.slice(start, start + BATCH)) stream.touch();
      if (start + BATCH < streams.length) setImmediate(next, start + BATCH);
    };
    next(0);
  }

  endAll(code: status, details: string): void {
    for (const stream of [...this.#streams]) stream.end(code, details);
  }
}
