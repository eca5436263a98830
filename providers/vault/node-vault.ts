/**
 * The package node-vault, over a transport of our own: it makes the URL of a path and the headers
 * of a token and a namespace, and sends each verb by its method.
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
    const send = ({ uri, method, headers, json, timeoutMs }: Outgoing) => {
      const body = json === undefined ? null : JSON.stringify(json);
      return transport.send({ url: uri, method, headers, body, timeoutMs });
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
    // What it took from the environment, and its reading of statuses, which takes every path that
    // contains "sys/health" for that of the health.
    const handleVaultResponse = (response: TransportResponse) => response;
    Object.assign(this.#vault, { token: "", namespace: "", pathPrefix: "", handleVaultResponse });
  }

  /** @returns the response, whatever its status. @throws what the transport throws */
  send(verb: Verb, request: NodeVaultRequest): Promise<TransportResponse> {
    const { path, token, namespace, body, timeoutMs } = request;
    const headers = {
      "X-Vault-Request": "true",
      ...(token === "" ? {} : { "X-Vault-Token": token }),
      ...(namespace === "" ? {} : { "X-Vault-Namespace": namespace }),
    };
    const options = { headers, timeoutMs };
    return verb === "write"
      ? this.#vault.write(path, body, options)
      : this.#vault[verb](path, options);
  }
}
