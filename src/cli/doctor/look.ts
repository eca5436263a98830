/**
 * Looks at a server: what the handshake shows, what everyone may read, and what the token may. Nothing
 * is sent to a server that is not verified, and no token to one that refused it.
 * @module
 */
import * as v from "valibot";
import { ClientError } from "../../client/errors.ts";
import { TransportError } from "../../client/transport.ts";
import type { Clock } from "../../core/ports/clock.ts";
import { type CaConfig, fetchConfig } from "../commands/connect/ca-config.ts";
import { fetchRoots, type RootsValue } from "../commands/connect/roots.ts";
import { readReadiness } from "../commands/status/facts.ts";
import type { StatusFacts } from "../commands/status/types.ts";
import type { ServerOptions } from "../connection/address.ts";
import { Connection } from "../connection/connection.ts";
import { type Peer, peerOf } from "../connection/exchange.ts";
import { type DatacenterStatus, fetchDatacenterStatus } from "../datacenter-status.ts";
import { describeFailure, EXIT, Failure } from "../output.ts";
import { Diagnosis, KekUse } from "./schema.ts";
import type { Looked } from "./types.ts";

/** How far a request came. */
export type Contact =
  | { readonly reached: "answered" }
  /** `network`: no connection; `tls`: not verified; `foreign`: an answer that is not meshca's. */
  | { readonly reached: "network" | "tls" | "foreign"; readonly reason: string };

export interface Facts {
  readonly options: ServerOptions;
  readonly now: Date;
  readonly contact: Contact;
  /** Null without TLS. */
  readonly peer: Looked<Peer | null>;
  /** How far the server's clock is ahead of this one's, and by how much that may be wrong. */
  readonly clock: Looked<{ readonly offsetMs: number; readonly errorMs: number }>;
  /** Why the token was refused; null if it was not, or none was given. */
  readonly tokenRefusal: string | null;
  readonly readiness: Looked<Pick<StatusFacts, "ready" | "reason" | "details">>;
  readonly roots: Looked<RootsValue>;
  readonly leader: Looked<string>;
  readonly replicas: Looked<readonly string[]>;
  readonly config: Looked<CaConfig>;
  readonly keks: Looked<KekUse>;
  readonly diagnosis: Looked<Diagnosis>;
  readonly datacenter: Looked<DatacenterStatus>;
}

/** @param warn writes a line to stderr */
export async function lookAt(
  options: ServerOptions,
  clock: Pick<Clock, "now">,
  warn: (line: string) => void,
): Promise<Facts> {
  const now = clock.now();
  const isTls = options.url.protocol === "https:" && options.socketPath === null;
  const peer = await looked(async () => (isTls ? peerOf(options) : null));
  const open = new Connection({ ...options, token: null }, warn);
  const hello = await sayHello(open, clock);
  const contact = hello.contact;
  const base = { options, now, contact, peer, clock: hello.clock };
  if (contact.reached !== "answered") return { ...base, ...nothing(reasonOf(contact)) };
  const tokenRefusal = await refusalOf(options, warn);
  const connection = tokenRefusal === null ? new Connection(options, warn) : open;
  const get = { method: "GET" } as const;
  const json = <T extends v.GenericSchema>(schema: T, path: string) =>
    looked(() => connection.json(schema, { ...get, path }));
  const [readiness, roots, leader, replicas, config, keks, diagnosis, datacenter] =
    await Promise.all([
      looked(() => readReadiness(connection)),
      looked(() => fetchRoots(connection)),
      json(v.string(), "/v1/status/leader"),
      json(v.array(v.string()), "/v1/status/peers"),
      looked(() => fetchConfig(connection)),
      json(KekUse, "/v1/connect/ca/rewrap"),
      json(Diagnosis, "/v1/status/diagnosis"),
      looked(() => fetchDatacenterStatus(connection)),
    ]);
  return {
    ...{ ...base, tokenRefusal, readiness, roots, leader, replicas, config, keks, diagnosis },
    datacenter,
  };
}

/** Asks whether it lives, which every server of meshca answers, also while it starts. */
async function sayHello(
  connection: Connection,
  clock: Pick<Clock, "now">,
): Promise<Pick<Facts, "contact" | "clock">> {
  const request = { method: "GET", path: "/healthz" } as const;
  const sent = clock.now().getTime();
  try {
    const answer = await connection.send(request);
    const received = clock.now().getTime();
    if (answer.status !== 200 || answer.body !== "ok\n")
      throw connection.foreign(`it answered GET /healthz with ${answer.status}`);
    return {
      contact: { reached: "answered" },
      clock: offsetOf(answer.header("date"), sent, received),
    };
  } catch (error) {
    const reason = describeFailure(error);
    const contact = { reached: faultOf(error), reason } as const;
    return { contact, clock: { error: reasonOf(contact) } };
  }
}

/** By the Date header, which has whole seconds (RFC 9110 section 5.6.7). */
function offsetOf(date: string | null, sentMs: number, receivedMs: number): Facts["clock"] {
  const server = date === null ? Number.NaN : Date.parse(date);
  if (!Number.isFinite(server)) return { error: "the server sends no Date header" };
  const half = (receivedMs - sentMs) / 2;
  return { value: { offsetMs: server + 500 - (sentMs + half), errorMs: 500 + half } };
}

function faultOf(error: unknown): "network" | "tls" | "foreign" {
  if (error instanceof ClientError) return "tls";
  if (!(error instanceof Failure)) throw error;
  if (error.exit === EXIT.protocol) return "foreign";
  return error.cause instanceof TransportError && error.cause.fault === "tls" ? "tls" : "network";
}

/** Why the server refuses the token; null if it accepts it, or none is sent. */
async function refusalOf(
  options: ServerOptions,
  warn: (line: string) => void,
): Promise<string | null> {
  if (options.token === null) return null;
  const connection = new Connection(options, warn);
  const request = { method: "GET", path: "/readyz" } as const;
  const answer = await connection.send(request);
  return answer.status === 403 ? connection.failure(answer, request).message : null;
}

async function looked<T>(work: () => Promise<T>): Promise<Looked<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    // A Failure in Consul's words has the one in ours as its cause.
    const ours = error instanceof Failure && error.cause instanceof Failure ? error.cause : error;
    if (!(ours instanceof Failure || ours instanceof ClientError || ours instanceof TransportError))
      throw error;
    return { error: ours.message };
  }
}

/** Why nothing else could be looked at. */
export function reasonOf(contact: Exclude<Contact, { reached: "answered" }>): string {
  switch (contact.reached) {
    case "network":
      return "the server does not answer (server.reachable)";
    case "tls":
      return "the server is not verified (server.tls)";
    case "foreign":
      return "the server is not one of meshca (server.api)";
  }
}

function nothing(error: string): Omit<Facts, "options" | "now" | "contact" | "peer" | "clock"> {
  const none = { error };
  return {
    tokenRefusal: null,
    ...{ readiness: none, roots: none, leader: none, replicas: none },
    ...{ config: none, keks: none, diagnosis: none, datacenter: none },
  };
}

/**
 * What the server recommends in its lines `remedy` of /readyz, as a sentence; null if it does not.
 * @param subject how the line begins: `the root`
 */
export function remedyOf({ readiness }: Pick<Facts, "readiness">, subject: string): string | null {
  const lines = "value" in readiness ? (readiness.value.details?.remedy ?? []) : [];
  const line = lines.find((one) => one.startsWith(subject));
  // What is wrong has instants, whose colons no blank follows.
  const text = line?.slice(line.indexOf(": ") + 2) ?? "";
  return text === "" ? null : `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
