/**
 * The options of the app, by concept.
 * @module
 */
import type { Acl } from "../core/acl/ports.ts";
import type { CertificateAuthority } from "../core/ca/ca.ts";
import type { Audit } from "../core/ports/audit.ts";
import type { BackupLog } from "../core/ports/backups.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { ReadRenewalToken } from "../core/ports/renewal-token.ts";
import type { StateCodec } from "../core/ports/store.ts";
import type { ServedHosts } from "./client.ts";
import type { OtherDatacenters } from "./forwarding.ts";
import type { HttpLimits } from "./limits.ts";
import type { Route } from "./route.ts";
import type { Diagnosis } from "./routes/diagnosis.ts";

export interface AppOptions {
  readonly ca: CertificateAuthority;
  readonly acl: AclOptions;
  /** Encodes and decodes backups. */
  readonly codec: StateCodec;
  /** Verifies proofs of possession of renewals. */
  readonly readRenewalToken: ReadRenewalToken;
  readonly server: ServerOptions;
  readonly limits: HttpLimits;
  readonly runtime: RuntimeOptions;
  readonly metrics: MetricsOptions;
  /** Null if there is no audit log. */
  readonly audit: Audit | null;
  /** The other datacenters that requests are forwarded to. */
  readonly others: OtherDatacenters;
  /** Routes of an agent that this server answers, too. @default none */
  readonly agentRoutes?: readonly Route[];
  /** The text of the 404 to a path that is not served here, or null: Consul's. @default Consul's */
  readonly textOfUnknown?: (path: string) => string | null;
  /** When a backup was handed out last. */
  readonly backups: BackupLog;
  /** What the server knows of itself, for an operator. */
  readonly diagnose: () => Promise<Diagnosis>;
  /** Lines of /readyz about the server, a name and a value each. */
  readonly details: () => readonly (readonly [name: string, value: string])[];
}

export interface AclOptions {
  /** Null if access control is off. */
  readonly control: Acl | null;
  /** The index that an operator wrote down to allow another bootstrap, or null. */
  readonly bootstrapReset: () => number | null;
  /** The bootstrap secret and the path of its file; null if there is no data folder. */
  readonly bootstrapSecret: () => { readonly secret: string; readonly file: string } | null;
  /** The configured initial management token, or null. */
  readonly managementToken: string | null;
}

interface RuntimeOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Runs the work of a request, so that all its log lines have its id. */
  readonly inRequest: <T>(requestId: string, work: () => T) => T;
}

export interface MetricsOptions {
  /** Renders the metrics for Prometheus, with their media type; null: no route /metrics. */
  readonly render: (() => Promise<{ readonly type: string; readonly text: string }>) | null;
  /** Counts a response, with the seconds that it took. */
  readonly countRequest: (route: string, status: number, seconds?: number) => void;
  /** Counts an invalid token. */
  readonly countWrongToken: () => void;
}

/** How the server is reached, and by which names. */
export interface ServerOptions extends ServedHosts {
  readonly datacenter: string;
  /** Consul's `connect.enabled`. */
  readonly connectEnabled: boolean;
  /** Whether every request comes from a proxy, whose address does not identify the client. */
  readonly behindProxy: boolean;
  /** Whether a proxy or platform in front compresses responses. */
  readonly compressedInFront: boolean;
}
