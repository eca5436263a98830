/**
 * Ends what listens, within a bound that no client can move.
 * @module
 */
import type { Listening } from "./tls.ts";

/** Milliseconds for what is being answered when the server ends. */
const CLOSE_MS = 5000;

/** Stops accepting. Ends when what is being answered has been, or is late. */
export async function stopInTime(server: Listening): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(() => resolve(server.stop(true)), CLOSE_MS);
  });
  await Promise.race([server.stop(false), late]);
  clearTimeout(timer);
}
