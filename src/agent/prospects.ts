/**
 * What will leave the agent without a way back if nothing is done: no root that verifies a server is
 * valid any more, or there is nothing to log in with once a certificate has expired.
 * @module
 */
import type { AgentSettings } from "../config/agent-types.ts";
import type { Log } from "../core/ports/log.ts";

/** The settings of the way back. */
export type WayBack = Pick<
  AgentSettings,
  "servers" | "caFile" | "caPin" | "token" | "tokenFile" | "login" | "identities"
>;

/** What is known of the servers. */
export interface Outlook {
  /** When the last root expired that verifies servers; null if one is valid. */
  readonly trustExpiredAt: Date | null;
  /** The policy of the servers' access control for callers without a token; null without it. */
  readonly defaultPolicy: "allow" | "deny" | null;
}

/**
 * Why no server can be verified any more, and the command that gives the agent the new root; or null.
 * An agent cannot find a new root itself: nothing that it trusts vouches for one.
 */
export function trustProblem(
  { servers, caFile, caPin }: WayBack,
  { trustExpiredAt }: Outlook,
): string | null {
  if (trustExpiredAt === null) return null;
  const [server = "https://HOST:PORT"] = servers;
  const fetchRoots = `meshca roots --pem --http-addr ${server} --server-pin sha256:FINGERPRINT`;
  const from = "with the fingerprint in the server's log or in its data folder (tls-fingerprint)";
  const how =
    caFile !== null
      ? `run ${fetchRoots} > ${caFile} ${from}; the file is read again without a restart`
      : `start the agent with --ca-file FILE after ${fetchRoots} > FILE ${from}${caPin === null ? "" : ", or with --ca-pin of the new root"}`;
  return `every root that verifies a server has expired, the last one at ${trustExpiredAt.toISOString()}: a connection that is open goes on, and no new one can be verified until the agent has a new root; ${how}`;
}

/** That an expired certificate could not be replaced, for lack of a token or a login; or null. */
export function loginProblem(
  { token, tokenFile, login, identities }: WayBack,
  { defaultPolicy }: Outlook,
): string | null {
  const hasOwn = token !== null || tokenFile !== null || login !== null;
  if (hasOwn || identities.length === 0 || defaultPolicy !== "deny") return null;
  return "the agent has neither a token nor a login: a certificate is renewed by its own key, and one that expires cannot be replaced; give --token-file, or --login-auth-method with --login-token-file";
}

/** Logs each problem once, when it begins, and that it is over. */
export class ProspectsLog {
  readonly #log: Log;
  #trust: string | null = null;
  #login: string | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  look(trust: string | null, login: string | null): void {
    if (trust !== null && this.#trust === null)
      this.#log.error(
        "No new connection to a server can be verified any more: certificates in use stay in use until they expire",
        { reason: trust },
      );
    if (trust === null && this.#trust !== null)
      this.#log.info("Servers can be verified again, by a root that is valid");
    if (login !== null && this.#login === null)
      this.#log.warn("A certificate that expires could not be replaced", { reason: login });
    this.#trust = trust;
    this.#login = login;
  }
}
