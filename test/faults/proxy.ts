/**
 * A bad network between one replica and Redis: delays, cuts, silence, an answer that never comes,
 * lost notices.
 * @module
 */
import { connect, createServer, type Socket } from "node:net";

export interface Network {
  readonly port: number;
  /** Where connections that begin from now on lead; null refuses them. */
  lead(port: number | null): void;
  /** How long every octet takes in each direction from now on, in milliseconds. */
  delay(ms: number): void;
  /** Closes every connection. */
  cut(): void;
  /**
   * Every connection falls silent for ever, without an end; those that begin while `on` are silent
   * as well.
   */
  silence(on: boolean): void;
  /**
   * Lets the next commit through and drops its answer with the connection. Resolves when that
   * happened.
   */
  cutNextCommitAnswer(): Promise<void>;
  /** Whether change notices are lost. */
  dropNotices(on: boolean): void;
  close(): void;
}

/** A text that only the commit script contains (scripts.ts). */
const COMMIT = "'term', ARGV[6], 'document'";
/** Its answer: index, commit id, term, commit id in the stop mark. */
const COMMIT_ANSWER = /\*4\r\n\$\d+\r\n\d+\r\n\$(32|0)\r\n/;
const NOTICE = "$7\r\nmessage\r\n";

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  /** Nothing comes through any more. */
  silent: boolean;
  /** What was received since a commit whose answer is to be cut. */
  answer: string | null;
  /** The end of the octets sent, in which a script may begin. */
  sent: string;
}

export async function createProxy(target: number): Promise<Network> {
  const pairs = new Set<Pair>();
  let to: number | null = target;
  let delayMs = 0;
  let silent = false;
  let noticesLost = false;
  let cutting: (() => void) | null = null;

  const pass = (socket: Socket, chunk: Buffer) => {
    if (delayMs === 0) socket.write(chunk);
    else setTimeout(() => socket.destroyed || socket.write(chunk), delayMs);
  };
  const end = (pair: Pair) => {
    pairs.delete(pair);
    pair.client.destroy();
    pair.server.destroy();
  };

  const listener = createServer((client) => {
    if (to === null) {
      client.destroy();
      return;
    }
    const pair: Pair = { client, server: connect(to, "127.0.0.1"), silent, answer: null, sent: "" };
    const { server } = pair;
    pairs.add(pair);
    client.on("data", (chunk: Buffer) => {
      if (pair.silent) return;
      pair.sent = (pair.sent + chunk.toString("latin1")).slice(-chunk.length - COMMIT.length);
      if (cutting !== null && pair.answer === null && pair.sent.includes(COMMIT)) pair.answer = "";
      pass(server, chunk);
    });
    server.on("data", (chunk: Buffer) => {
      if (pair.silent) return;
      const text = chunk.toString("latin1");
      if (pair.answer !== null) {
        pair.answer += text;
        if (!COMMIT_ANSWER.test(pair.answer)) return;
        const done = cutting;
        cutting = null;
        end(pair);
        done?.();
      } else if (!(noticesLost && text.includes(NOTICE))) pass(client, chunk);
    });
    for (const socket of [client, server]) {
      socket.setNoDelay();
      socket.on("error", () => undefined);
      socket.on("close", () => pair.silent || end(pair));
    }
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();

  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    lead(port) {
      to = port;
    },
    delay(ms) {
      delayMs = ms;
    },
    cut() {
      for (const pair of [...pairs]) end(pair);
    },
    silence(on) {
      silent = on;
      for (const pair of pairs) pair.silent = true;
    },
    cutNextCommitAnswer: () =>
      new Promise((resolve) => {
        cutting = resolve;
      }),
    dropNotices(on) {
      noticesLost = on;
    },
    close() {
      listener.close();
      for (const pair of [...pairs]) end(pair);
    },
  };
}
