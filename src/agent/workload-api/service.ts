/**
 * The SPIFFE Workload API of one socket (SPIFFE Workload Endpoint and SPIFFE Workload API).
 * @module
 */
import type { Buffer } from "node:buffer";
import {
  type Metadata,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Admission } from "../admission.ts";
import { LatestStream, StreamGroup, statusText } from "../latest-stream.ts";
import type { WorkloadState } from "../workload-state.ts";
import { bundlesResponse, svidResponse } from "./messages.ts";

type Call = ServerWritableStream<object, Buffer>;

/** Why a call is refused, or a stream ends. */
interface Refusal {
  readonly code: status;
  readonly details: string;
  /** A fixed word for the metric. */
  readonly reason: string;
}

/** A message that all streams of a kind get, or why there is none. */
type Present = { readonly message: Buffer } | Refusal;

/** The metadata that every request carries, as a guard against SSRF (SPIFFE Workload Endpoint). */
const SECURITY_HEADER = "workload.spiffe.io";

const NO_HEADER: Refusal = {
  code: status.INVALID_ARGUMENT,
  details: `The request must have the metadata ${SECURITY_HEADER} once, with the value "true"`,
  reason: "no-header",
};
const NO_IDENTITY: Refusal = {
  code: status.PERMISSION_DENIED,
  details: "No identity is configured for this endpoint",
  reason: "no-identity",
};
const NO_JWT: Refusal = {
  code: status.UNIMPLEMENTED,
  details: "JWT-SVIDs are not issued; use the X.509 profile (FetchX509SVID, FetchX509Bundles)",
  reason: "unimplemented",
};
const TOO_MANY: Refusal = {
  code: status.UNAVAILABLE,
  details: "Too many streams are open on this endpoint; try again later",
  reason: "too-many-streams",
};

/** Streams of one method that all get the same messages. */
class Broadcast {
  readonly #state: WorkloadState;
  readonly #compute: () => Present;
  readonly #streams = new StreamGroup();
  #present: Present;
  #revision: string;

  constructor(state: WorkloadState, compute: () => Present) {
    this.#state = state;
    this.#compute = compute;
    this.#revision = state.revision;
    this.#present = compute();
  }

  get refusal(): Refusal | null {
    return "message" in this.#present ? null : this.#present;
  }

  /** Adds a stream, which gets the present message at once. */
  add(call: Call, onEnd: () => void): void {
    const stream = new LatestStream(
      call,
      () => ("message" in this.#present ? this.#present.message : null),
      () => {
        this.#streams.delete(stream);
        onEnd();
      },
    );
    this.#streams.add(stream);
    stream.touch();
  }

  /** Sends a message to every stream if it differs from the last one; without one all of them end. */
  update(): void {
    const last = this.#present;
    const { revision } = this.#state;
    // The reason of a refusal may change without a revision.
    if (revision === this.#revision && "message" in last) return;
    this.#revision = revision;
    this.#present = this.#compute();
    const now = this.#present;
    if (!("message" in now)) this.#streams.endAll(now.code, now.details);
    else if (!("message" in last) || !now.message.equals(last.message)) this.#streams.touchAll();
  }

  end(code: status, details: string): void {
    this.#streams.endAll(code, details);
  }
}

export class WorkloadApi {
  readonly #state: WorkloadState;
  readonly #admission: Admission;
  readonly #svids: Broadcast;
  readonly #bundles: Broadcast;

  constructor(state: WorkloadState, admission: Admission) {
    this.#state = state;
    this.#admission = admission;
    this.#svids = new Broadcast(state, () => this.#presentSvids());
    this.#bundles = new Broadcast(state, () => this.#presentBundles());
    state.subscribe(() => {
      this.#svids.update();
      this.#bundles.update();
    });
  }

  /** The handlers of the gRPC service, for encoded responses. */
  get handlers(): UntypedServiceImplementation {
    return {
      FetchX509SVID: (call: Call) => this.#stream(call, this.#svids),
      FetchX509Bundles: (call: Call) => this.#stream(call, this.#bundles),
      FetchJWTBundles: (call: Call) => this.#end(call, refusalOf(call.metadata) ?? NO_JWT),
      FetchJWTSVID: this.#refuseJwt,
      ValidateJWTSVID: this.#refuseJwt,
    };
  }

  /** Ends every stream, so that clients reconnect. */
  close(details: string): void {
    for (const group of [this.#svids, this.#bundles]) group.end(status.UNAVAILABLE, details);
  }

  readonly #refuseJwt = (
    call: ServerUnaryCall<object, Buffer>,
    respond: sendUnaryData<Buffer>,
  ): void => {
    const { code, details, reason } = refusalOf(call.metadata) ?? NO_JWT;
    this.#admission.refused("workload-api", reason);
    respond({ code, details });
  };

  #stream(call: Call, broadcast: Broadcast): void {
    // What changed in this turn of the event loop is not sent yet, but a first message must have it.
    broadcast.update();
    const refusal = refusalOf(call.metadata) ?? broadcast.refusal;
    const release = refusal === null ? this.#admission.open("workload-api") : null;
    if (release === null) this.#end(call, refusal ?? TOO_MANY);
    else broadcast.add(call, release);
  }

  #end(call: Call, { code, details, reason }: Refusal): void {
    this.#admission.refused("workload-api", reason);
    call.emit("error", { code, details: statusText(details) });
  }

  #presentSvids(): Present {
    const { isEmpty, identities, bundle } = this.#state;
    if (isEmpty) return NO_IDENTITY;
    if (bundle === null || identities.length === 0) return this.#notReady();
    return { message: svidResponse(identities, bundle) };
  }

  #presentBundles(): Present {
    const { isEmpty, bundle } = this.#state;
    if (isEmpty) return NO_IDENTITY;
    return bundle === null ? this.#notReady() : { message: bundlesResponse(bundle) };
  }

  #notReady(): Refusal {
    return { code: status.UNAVAILABLE, details: this.#state.reason, reason: "not-ready" };
  }
}

/** Why the metadata of a request is refused, or null. */
function refusalOf(metadata: Metadata): Refusal | null {
  const values = metadata.get(SECURITY_HEADER);
  return values.length === 1 && values[0] === "true" ? null : NO_HEADER;
}
