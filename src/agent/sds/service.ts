/**
 * Envoy's Secret Discovery Service of one socket, by gRPC.
 * @module
 */
import type { Buffer } from "node:buffer";
import {
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Admission } from "../admission.ts";
import { LatestStream, StreamGroup, statusText } from "../latest-stream.ts";
import type { LineLimit } from "../line-limit.ts";
import type { WorkloadState } from "../workload-state.ts";
import { type DiscoveryRequest, encodeResponse, typeRefusal } from "./messages.ts";
import { resolveSecrets, unknownNames, versionOf } from "./secrets.ts";
import { Subscription } from "./subscription.ts";

type Call = ServerDuplexStream<DiscoveryRequest, Buffer>;
type UnaryCall = ServerUnaryCall<DiscoveryRequest, Buffer>;

/** Characters of a text of Envoy's that are logged. */
const MAX_LOGGED = 300;

export class SecretDiscovery {
  readonly #state: WorkloadState;
  readonly #admission: Admission;
  readonly #lines: LineLimit;
  readonly #group = new StreamGroup();
  /** Ends the subscriptions that turned out to be wrong. */
  readonly #reviews = new Set<() => void>();

  constructor(state: WorkloadState, admission: Admission, lines: LineLimit) {
    this.#state = state;
    this.#admission = admission;
    this.#lines = lines;
    state.subscribe(() => {
      for (const review of [...this.#reviews]) review();
      this.#group.touchAll();
    });
  }

  /** The handlers of the gRPC service, for encoded responses. */
  get handlers(): UntypedServiceImplementation {
    return {
      StreamSecrets: (call: Call) => this.#stream(call),
      FetchSecrets: (call: UnaryCall, respond: sendUnaryData<Buffer>) => this.#fetch(call, respond),
      DeltaSecrets: (call: Call) => {
        const details = 'DeltaSecrets is not implemented; configure Envoy with "api_type: GRPC"';
        this.#refuse(call, status.UNIMPLEMENTED, "unimplemented", details);
      },
    };
  }

  /** Ends every stream, so that clients reconnect. */
  close(details: string): void {
    this.#group.endAll(status.UNAVAILABLE, details);
  }

  #stream(call: Call): void {
    const release = this.#admission.open("sds");
    if (release === null) {
      const details = "Too many streams are open on this endpoint; try again later";
      this.#refuse(call, status.UNAVAILABLE, "too-many-streams", details);
      return;
    }
    const subscription = new Subscription(this.#state);
    const end = (reason: string, details: string) => {
      this.#admission.refused("sds", reason);
      stream.end(status.INVALID_ARGUMENT, details);
    };
    const review = () => {
      const { refusal } = subscription;
      if (refusal !== null && !stream.hasEnded) end("unknown-name", refusal);
    };
    const stream = new LatestStream(
      call,
      () => subscription.next(),
      () => {
        this.#group.delete(stream);
        this.#reviews.delete(review);
        release();
      },
    );
    this.#group.add(stream);
    this.#reviews.add(review);
    // Clients may leave the node out of later requests.
    let node = "";
    call.on("data", (request: DiscoveryRequest) => {
      if (stream.hasEnded) return;
      node = request.node?.id.slice(0, MAX_LOGGED) || node;
      const refusal = typeRefusal(request.typeUrl);
      if (refusal !== null) {
        end("type-url", refusal);
      } else if (subscription.receive(request)) {
        if (request.errorDetail !== null) this.#logRefused(request, node, subscription.version);
        review();
        stream.touch();
      }
    });
    call.on("end", () => stream.end(status.OK, "OK"));
  }

  #fetch({ request }: UnaryCall, respond: sendUnaryData<Buffer>): void {
    const names = request.resourceNames.filter((name) => name !== "");
    const resolution = resolveSecrets(this.#state, names.length === 0 ? null : names);
    const { secrets, unknown } = resolution;
    const refuse = (code: status, reason: string, details: string) => {
      this.#admission.refused("sds", reason);
      respond({ code, details: statusText(details) });
    };
    const refusal = typeRefusal(request.typeUrl);
    if (refusal !== null) refuse(status.INVALID_ARGUMENT, "type-url", refusal);
    else if (unknown.length > 0)
      refuse(status.INVALID_ARGUMENT, "unknown-name", unknownNames(resolution));
    else if (secrets.length === 0) refuse(status.UNAVAILABLE, "not-ready", this.#state.reason);
    else respond(null, encodeResponse({ version: versionOf(secrets), nonce: "1", secrets }));
  }

  #refuse(call: Call, code: status, reason: string, details: string): void {
    this.#admission.refused("sds", reason);
    call.emit("error", { code, details: statusText(details) });
  }

  /** An Envoy keeps the last secret that it accepted; it is sent nothing before something changes. */
  #logRefused(
    { errorDetail, resourceNames }: DiscoveryRequest,
    node: string,
    version: string,
  ): void {
    this.#admission.refused("sds", "nack");
    this.#lines.warn("Envoy refused secrets and keeps its last ones", {
      node,
      names: resourceNames.slice(0, 3).map((name) => name.slice(0, MAX_LOGGED)),
      version,
      error: errorDetail?.message.slice(0, MAX_LOGGED),
    });
  }
}
