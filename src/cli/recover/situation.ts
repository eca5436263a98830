/**
 * What `meshca recover` finds at the server before it changes anything.
 * @module
 */
import { type CaConfig, fetchConfig } from "../commands/connect/ca-config.ts";
import { readStatus } from "../commands/status/facts.ts";
import type { RootFacts } from "../commands/status/types.ts";
import type { Connection } from "../connection/connection.ts";
import { HttpFailure } from "../connection/failures.ts";
import { EXIT, Failure } from "../output.ts";

export interface Situation {
  readonly server: string;
  readonly trustDomain: string;
  /** The configuration of the CA, which is changed. */
  readonly config: CaConfig;
  readonly provider: string;
  readonly roots: readonly RootFacts[];
  /** Why no leaf can be signed, or null. */
  readonly reason: string | null;
  /** What the server reports of its provider, each a sentence. */
  readonly providerNotes: readonly string[];
}

/**
 * Reads what there is.
 * @throws {Failure} also if the token may not read the configuration, and in a secondary datacenter
 */
export async function readSituation(connection: Connection, now: Date): Promise<Situation> {
  // First, since a token without this right has none to write it either.
  const config = await fetchConfig(connection).catch((error: unknown) => {
    throw withAdvice(error);
  });
  const status = await readStatus(connection, now, () => false);
  if (status.trustDomain === null)
    throw new Failure(
      EXIT.temporary,
      `The server at ${connection.name} has no CA yet: ${status.reason ?? "it is starting"}; see its log`,
    );
  const [primary] = status.details?.primary ?? [];
  if (primary !== undefined)
    throw new Failure(
      EXIT.data,
      `The server at ${connection.name} is of a secondary datacenter, which follows the root of the primary datacenter ${primary.split(",")[0]}; run meshca recover there. If its own Vault is gone, give it another provider with meshca connect ca set-config`,
    );
  return {
    server: connection.name,
    trustDomain: status.trustDomain,
    config,
    provider: String(config.Provider),
    roots: status.roots,
    reason: status.reason,
    providerNotes: status.details?.provider ?? [],
  };
}

/** An error of a call that is told in Consul's words, in ours, which say what to do. */
export function withAdvice(error: unknown): unknown {
  const cause = error instanceof Failure ? error.cause : null;
  return cause instanceof HttpFailure ? cause : error;
}

/** Whether there is nothing to recover: leaves are signed under a root that is valid. */
export function isHealthy({ reason, roots, providerNotes }: Situation): boolean {
  return (
    reason === null && providerNotes.length === 0 && roots.some(({ state }) => state === "active")
  );
}
