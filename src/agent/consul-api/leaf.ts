/**
 * GET /v1/agent/connect/ca/leaf/:service: a leaf with its private key, also as a blocking query.
 * @module
 */
import type { Source } from "../../client/source.ts";
import type { X509Svid } from "../../client/svid.ts";
import { writeJson } from "../../consul/go-json.ts";
import { RequestError } from "../../core/errors.ts";
import { parseSpiffeId, requireSegment } from "../../core/spiffe/id.ts";
import { secretOf } from "../../http/request-token.ts";
import { plainBody } from "../../http/responses.ts";
import type { Call, RouteResponse } from "../../http/route.ts";
import type { Workload } from "../workload.ts";
import { CallerLeaves, type Reading } from "./caller-leaves.ts";
import type { ConsulApiOptions } from "./options.ts";
import { AgentRefusal, RETRY_MS } from "./refusal.ts";
import { leafJson, type NumberedLeaf, ServedLeaf } from "./served-leaf.ts";
import type { Waits } from "./waits.ts";

/**
 * How often a request that waits for the first leaf looks whether it cannot be had, in milliseconds.
 */
const FAILURE_MS = 100;

export const LEAF_PATH = "/v1/agent/connect/ca/leaf/";

interface Configured {
  readonly workload: Workload;
  readonly served: ServedLeaf;
}

export class AgentLeaves {
  readonly #options: ConsulApiOptions;
  readonly #waits: Waits;
  readonly #callers: CallerLeaves;
  readonly #configured: readonly Configured[];

  constructor(options: ConsulApiOptions, waits: Waits) {
    const { set, openLeaf: open, clock, random } = options;
    this.#options = options;
    this.#waits = waits;
    this.#callers = new CallerLeaves({ open, clock, random });
    this.#configured = set.workloads.map((workload) => ({
      workload,
      served: new ServedLeaf(workload.svid, clock),
    }));
  }

  /** @throws {AgentRefusal} @throws {RequestError} @throws {RateLimitedError} */
  async answer(call: Call): Promise<RouteResponse> {
    const service = serviceOf(call.request.url);
    // Consul's redirect of the path without its last slash (Go's http.ServeMux).
    if (service === null) return { status: 307, headers: { Location: LEAF_PATH } };
    if (service === "") throw malformed("URI must be either service, agent, server, or kind");
    const { params, pretty } = call.query();
    requireSegment(service, "service");
    const datacenter = params.get("datacenter") || params.get("dc") || null;
    const token = secretOf(call.request);
    await this.#requireRight(token, service);
    const reading = this.#read(service, datacenter, token);
    try {
      const { leaf, headers } = await this.#leafFor(call, service, reading);
      // A wait may outlast the right.
      await this.#requireRight(token, service);
      return {
        headers: { "X-Consul-Index": String(leaf.index), ...headers },
        body: plainBody("application/json", writeJson(leafJson(service, leaf), pretty)),
        secret: true,
      };
    } finally {
      reading.end();
    }
  }

  close(): void {
    this.#callers.close();
    for (const { served } of this.#configured) served.close();
  }

  #requireRight(token: string | null, service: string): Promise<number | null> {
    const right = { resource: "service", level: "write", name: service } as const;
    return this.#options.rights.require(token, right);
  }

  #read(service: string, datacenter: string | null, token: string | null): Reading {
    const configured = this.#configured.find(
      ({ workload }) =>
        workload.service === service &&
        (datacenter === null || isOfDatacenter(workload.svid, datacenter)),
    );
    const away = (text: string | null) =>
      text === null ? null : new AgentRefusal(503, text, RETRY_MS);
    if (configured !== undefined)
      return {
        served: configured.served,
        changes: [configured.served],
        failure: () => away(configured.workload.problem),
        end: () => undefined,
      };
    const reading = this.#callers.read({ service, datacenter }, token);
    // Before the first roots no leaf is asked for.
    const failure = () => {
      const { problem } = this.#options.contact;
      const text = `Cannot get a leaf of service ${JSON.stringify(service)}: ${problem}`;
      return reading.failure() ?? away(problem === null ? null : text);
    };
    return { ...reading, failure };
  }

  /** The leaf that a request is answered with, once there is one and its wait is over. */
  async #leafFor(
    { request, query, environment }: Call,
    service: string,
    { served, changes, failure }: Reading,
  ): Promise<{ leaf: NumberedLeaf; headers: Readonly<Record<string, string>> }> {
    const { index, givenWaitMs } = query();
    const { clock } = this.#options;
    const began = clock.now().getTime();
    const isDecided = () => served.current !== null || served.hadOne || failure() !== null;
    environment.holdOpen?.();
    const { signal } = request;
    if (!(await this.#waits.until(changes, isDecided, givenWaitMs, signal, FAILURE_MS)))
      throw new AgentRefusal(
        504,
        `No certificate of service ${JSON.stringify(service)} yet: the wait of the request is over`,
        RETRY_MS,
      );
    const first = served.current;
    if (first === null) throw missing(service, served, failure());
    // A miss without an index, also if the leaf is the same, and after a wait, as in Consul.
    const miss = { "X-Cache": "MISS" };
    if (index === null) return { leaf: first, headers: miss };
    // An index ahead of ours is answered at once: after a lost write its client would wait in vain.
    if (index !== BigInt(first.index)) {
      const age = Math.max(0, clock.now().getTime() - first.receivedAt);
      return { leaf: first, headers: { "X-Cache": "HIT", Age: String(Math.round(age / 1000)) } };
    }
    const passed = Math.max(0, clock.now().getTime() - began);
    const left = givenWaitMs === null ? null : Math.max(0, givenWaitMs - passed);
    const isOver = () => served.current?.index !== first.index;
    await this.#waits.until([served], isOver, left, signal);
    const leaf = served.current;
    if (leaf === null) throw missing(service, served, failure());
    return { leaf, headers: miss };
  }
}

/** Why there is no leaf. */
function missing(
  service: string,
  { hadOne }: ServedLeaf,
  failure: AgentRefusal | null,
): AgentRefusal {
  const quoted = JSON.stringify(service);
  if (!hadOne && failure !== null) return failure;
  const reason = failure === null ? "" : `: ${failure.message}`;
  return new AgentRefusal(
    503,
    `The leaf of service ${quoted} has expired and could not be renewed${reason}`,
    failure?.retryAfterMs ?? RETRY_MS,
  );
}

/**
 * The name behind the prefix of a path, decoded; null for the path without its last slash.
 * @throws {RequestError} `request_malformed`
 */
function serviceOf(url: string): string | null {
  const { pathname } = new URL(url);
  if (!pathname.startsWith(LEAF_PATH)) return null;
  try {
    return decodeURIComponent(pathname.slice(LEAF_PATH.length));
  } catch {
    throw malformed("The name of the service is not percent-encoded UTF-8");
  }
}

function isOfDatacenter({ current }: Source<X509Svid>, datacenter: string): boolean {
  const id = current === null ? null : parseSpiffeId(current.spiffeId);
  return (
    id !== null && id.kind !== "signing" && id.datacenter.toLowerCase() === datacenter.toLowerCase()
  );
}

function malformed(message: string): RequestError {
  return new RequestError("request_malformed", message);
}
