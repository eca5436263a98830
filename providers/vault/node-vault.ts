/**
 * The package node-vault, over a transport of our own: it makes the URL of a path and the headers
 * of a token and a namespace, sends each verb by its method, and distinguishes success from failure.
 * @module
 */
import nodeVault from "node-vault";
import type { Transport, TransportResponse } from "./transport.ts";

export type Verb = "read" | "list" | "write" | "delete";

interface NodeVaultRequest {
  readonly path: string;
  /** Empty: without one. */
  readonly token: string;
  /** Empty: the root namespace. */
  readonly namespace: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly timeoutMs: number;
}

/** What node-vault passes to the function that sends. */
interface Outgoing {
  readonly uri: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly timeoutMs: number;
}

export class NodeVault {
  readonly #vault: nodeVault.client;

  /** @param address an origin: scheme, host and port. */
  constructor(address: string, transport: Transport) {
    const send = async ({ uri, method, headers, json, timeoutMs }: Outgoing) => {
      const body = json === undefined ? null : JSON.stringify(json);
      const response = await transport.send({ url: uri, method, headers, body, timeoutMs });
      const request = { path: new URL(uri).pathname };
      return { statusCode: response.status, body: response, request };
    };
    const options = {
      endpoint: address,
      noCustomHTTPVerbs: true,
      // Its debug output has tokens and bodies.
      debug: () => undefined,
      // The functions that it generates by name.
      commands: {},
      "request-promise": { defaults: () => send },
    };
    this.#vault = nodeVault(options as unknown as nodeVault.VaultOptions);
    // What it took from the environment.
    Object.assign(this.#vault, { token: "", namespace: "", pathPrefix: "" });
  }

  /**
   * @returns the response of a success, and of `sys/health` whatever its status.
   * @throws {FailedResponse} @throws what the transport throws
   */
  async send(verb: Verb, request: NodeVaultRequest): Promise<TransportResponse> {
    const { path, token, namespace, body, timeoutMs } = request;
    const headers = {
      "X-Vault-Request": "true",
      ...(token === "" ? {} : { "X-Vault-Token": token }),
      ...(namespace === "" ? {} : { "X-Vault-Namespace": namespace }),
    };
    const options = { headers, timeoutMs };
    try {
      return await (verb === "write"
        ? this.#vault.write(path, body, options)
        : this.#vault[verb](path, options));
    } catch (error) {
      throw error instanceof Error && "response" in error
        ? new FailedResponse((error.response as { readonly body: TransportResponse }).body)
        : error;
    }
  }
}

/** A response with a status other than 200 and 204. */
export class FailedResponse extends Error {
  readonly response: TransportResponse;

  constructor(response: TransportResponse) {
    super(`Status ${response.status}`);
    this.response = response;
  }
}
