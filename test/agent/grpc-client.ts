/**
 * A gRPC client of a workload's endpoint, which a test reads message by message.
 * @module
 */
import {
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import type { MessageTypeDefinition } from "@grpc/proto-loader";
import { protocol } from "../../src/agent/proto.ts";

/** Fields of messages, in camelCase. */
export interface SvidMessage {
  readonly svids: readonly {
    readonly spiffeId: string;
    readonly x509Svid: Buffer;
    readonly x509SvidKey: Buffer;
    readonly bundle: Buffer;
    readonly hint: string;
  }[];
  readonly crl: readonly Buffer[];
  readonly federatedBundles: Readonly<Record<string, Buffer>>;
}

export interface BundlesMessage {
  readonly crl: readonly Buffer[];
  readonly bundles: Readonly<Record<string, Buffer>>;
}

export interface DiscoveryMessage {
  readonly versionInfo: string;
  readonly resources: readonly { readonly type_url: string; readonly value: Buffer }[];
  readonly typeUrl: string;
  readonly nonce: string;
}

export function messageType(name: string): MessageTypeDefinition<object, object> {
  return protocol()[name] as MessageTypeDefinition<object, object>;
}

/** Reads a stream one message after the other. */
export class Reader<T> {
  readonly #queue: (T | ServiceError | "end")[] = [];
  #wake: () => void = () => undefined;
  /** Messages that came and were not read. */
  get waiting(): number {
    return this.#queue.length;
  }

  constructor(readable: ClientReadableStream<T> | ClientDuplexStream<object, T>) {
    const add = (item: T | ServiceError | "end") => {
      this.#queue.push(item);
      this.#wake();
    };
    readable.on("data", (message: T) => add(message));
    readable.on("error", (error: ServiceError) => add(error));
    readable.on("end", () => add("end"));
  }

  async next(): Promise<T> {
    const item = await this.#take();
    if (item instanceof Error) throw item;
    if (item === "end") throw new Error("The stream ended");
    return item;
  }

  /** The status with which the stream ends. @throws if it sends a message first. */
  async error(): Promise<ServiceError> {
    const item = await this.#take();
    if (item instanceof Error) return item;
    throw new Error(
      `The stream did not fail: ${item === "end" ? "it ended" : "it sent a message"}`,
    );
  }

  async #take(): Promise<T | ServiceError | "end"> {
    while (this.#queue.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#queue.shift() as T | ServiceError | "end";
  }
}

export class TestClient {
  readonly #client: Client;

  /** @param target for example `unix:/run/web.sock`. */
  constructor(target: string) {
    // Connections are not shared with other clients of this process.
    this.#client = new Client(target, credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.initial_reconnect_backoff_ms": 20,
      "grpc.max_reconnect_backoff_ms": 50,
    });
  }

  /** A stream of the Workload API. @param header values of the header that guards against SSRF. */
  workload<T>(method: string, response: string, header: readonly string[] = ["true"]) {
    const metadata = new Metadata();
    for (const value of header) metadata.add("workload.spiffe.io", value);
    const stream = this.#client.makeServerStreamRequest(
      `/SpiffeWorkloadAPI/${method}`,
      messageType("X509SVIDRequest").serialize,
      (bytes) => messageType(response).deserialize(bytes) as T,
      {},
      metadata,
    );
    return { stream, reader: new Reader<T>(stream) };
  }

  svids(header?: readonly string[]) {
    return this.workload<SvidMessage>("FetchX509SVID", "X509SVIDResponse", header);
  }

  bundles(header?: readonly string[]) {
    return this.workload<BundlesMessage>("FetchX509Bundles", "X509BundlesResponse", header);
  }

  secrets(method = "StreamSecrets") {
    const stream = this.#client.makeBidiStreamRequest(
      `/envoy.service.secret.v3.SecretDiscoveryService/${method}`,
      messageType("envoy.service.discovery.v3.DiscoveryRequest").serialize,
      (bytes) =>
        messageType("envoy.service.discovery.v3.DiscoveryResponse").deserialize(
          bytes,
        ) as DiscoveryMessage,
    );
    return { stream, reader: new Reader<DiscoveryMessage>(stream) };
  }

  unary<T>(
    path: string,
    types: readonly [string, string],
    message: object,
    metadata = new Metadata(),
  ) {
    return new Promise<T>((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        messageType(types[0]).serialize,
        (bytes) => messageType(types[1]).deserialize(bytes) as T,
        message,
        metadata,
        (error, value) => (error === null ? resolve(value as T) : reject(error)),
      );
    });
  }

  fetchSecrets(message: object): Promise<DiscoveryMessage> {
    return this.unary<DiscoveryMessage>(
      "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
      [
        "envoy.service.discovery.v3.DiscoveryRequest",
        "envoy.service.discovery.v3.DiscoveryResponse",
      ],
      message,
    );
  }

  close(): void {
    this.#client.close();
  }
}
