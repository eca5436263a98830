/**
 * Sends a root and its key to the server, and finds out whether the server has taken them, also if
 * the answer was lost.
 * @module
 */
import { ClientError } from "../../client/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import { type CaConfig, putConfig } from "../commands/connect/ca-config.ts";
import { fetchRoots } from "../commands/connect/roots.ts";
import type { ServerOptions } from "../connection/address.ts";
import { Connection } from "../connection/connection.ts";
import { HttpFailure } from "../connection/failures.ts";
import { Failure } from "../output.ts";
import type { RecoveryRoot } from "./root-files.ts";
import { withAdvice } from "./situation.ts";

/** How often, and after which pause in milliseconds, a replica that lags behind is asked again. */
const LOOKS = { times: 20, pauseMs: 500 };

export interface Sending {
  readonly connection: Connection;
  readonly options: ServerOptions;
  readonly root: RecoveryRoot;
  readonly config: CaConfig;
  readonly force: boolean;
  readonly clock: Clock;
}

/** The server did not take the root, or it is not known whether it did. */
export class NotTaken extends Failure {
  /** Whether it is known that nothing was changed. */
  readonly isUnchanged: boolean;

  constructor(failure: Failure, isUnchanged: boolean) {
    super(failure.exit, failure.message, failure);
    this.name = "NotTaken";
    this.isUnchanged = isUnchanged;
  }
}

/** @returns the roots that were abandoned @throws {NotTaken} */
export async function sendRoot(sending: Sending): Promise<readonly string[]> {
  const { connection, config, force } = sending;
  try {
    return (await putConfig(connection, config, force)).abandoned;
  } catch (thrown) {
    const error = withAdvice(thrown);
    if (!(error instanceof Failure)) throw error;
    const active = await activeRoot(sending);
    if (active === sending.root.certificate.id) return [];
    // The change is over once its answer is there; without one it may still be running.
    const isOver = error instanceof HttpFailure && (error.status < 500 || active !== null);
    throw new NotTaken(error, isOver);
  }
}

/**
 * Waits until the server lists the root as the active one.
 * @returns false if it still lists another one after ten seconds, or cannot be verified any more
 */
export async function waitUntilActive(
  sending: Pick<Sending, "options" | "root" | "clock">,
): Promise<boolean> {
  for (let look = 1; look < LOOKS.times; look++) {
    if ((await activeRoot(sending)) === sending.root.certificate.id) return true;
    await sending.clock.sleep(LOOKS.pauseMs);
  }
  return (await activeRoot(sending)) === sending.root.certificate.id;
}

/**
 * The ID of the root that the server lists as the active one, or null if it cannot be read. With the
 * root the server's own certificate may have changed, so that it is verified as before, or by the new
 * root. No token is sent.
 */
async function activeRoot({
  options,
  root,
}: Pick<Sending, "options" | "root">): Promise<string | null> {
  const anonymous = { ...options, token: null };
  const ways = [anonymous, { ...anonymous, pin: null, anchorsPem: root.certificatePem }];
  for (const way of ways)
    try {
      const { ActiveRootID } = await fetchRoots(new Connection(way, () => undefined));
      return ActiveRootID;
    } catch (error) {
      if (!(error instanceof Failure || error instanceof ClientError)) throw error;
    }
  return null;
}
