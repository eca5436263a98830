/**
 * Reads what a process writes.
 * @module
 */

/**
 * @returns what waits until the output that was not taken yet has a match, and takes all up to its
 * end.
 */
export function createReader(
  output: ReadableStream<Uint8Array>,
): (pattern: RegExp) => Promise<RegExpExecArray> {
  const reader = output.getReader();
  const decoder = new TextDecoder();
  let text = "";
  return async (pattern) => {
    for (;;) {
      const match = pattern.exec(text);
      if (match !== null) {
        text = text.slice(match.index + match[0].length);
        return match;
      }
      const { value, done } = await reader.read();
      if (done) throw new TypeError(`The process ended without ${pattern}`);
      text += decoder.decode(value, { stream: true });
    }
  };
}
