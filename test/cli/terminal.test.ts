/**
 * What a command shows while something takes long, and how it asks.
 * @module
 */
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, it } from "node:test";
import { Terminal } from "../../src/cli/terminal.ts";
import { plain } from "./run.ts";

/** A terminal, or pipes, whose stderr calls back for each text. */
function terminalOf(isTTY: boolean, onText: (text: string) => void = () => undefined) {
  const written: string[] = [];
  const streams = {
    stdin: Object.assign(Readable.from([]), { isTTY }),
    stdout: { isTTY, write: () => assert.fail("progress is not output") },
    stderr: {
      isTTY,
      write(text: string) {
        written.push(text);
        onText(text);
      },
    },
  };
  return { terminal: new Terminal(streams, {}), written };
}

describe("progress", () => {
  it("is shown on a terminal after a second, and removed at the end", async () => {
    const work = Promise.withResolvers<string>();
    const { terminal, written } = terminalOf(true, () => work.resolve("done"));
    assert.equal(await terminal.progress("Waiting for the root", work.promise), "done");
    assert.equal(written.length, 2);
    assert.match(plain(written[0] ?? ""), /^\rWaiting for the root\.\.\. \d+ s$/);
    assert.equal(written[1], "\r\u001b[K");
  });

  it("is not shown for what is done at once, nor without a terminal", async () => {
    const quick = terminalOf(true);
    assert.equal(await quick.terminal.progress("Waiting", Promise.resolve(1)), 1);
    assert.deepEqual(quick.written, []);
    // Both wait until the one on a terminal is shown.
    const work = Promise.withResolvers<void>();
    const [shown, silent] = [terminalOf(true, () => work.resolve()), terminalOf(false)];
    await Promise.all([shown, silent].map(({ terminal }) => terminal.progress("x", work.promise)));
    assert.deepEqual([shown.written.length, silent.written], [2, []]);
  });

  it("is removed if the work fails", async () => {
    const work = Promise.withResolvers<never>();
    const { terminal, written } = terminalOf(true, () => work.reject(new Error("refused")));
    await assert.rejects(terminal.progress("Waiting", work.promise), /^Error: refused$/);
    assert.equal(written.at(-1), "\r\u001b[K");
  });
});
