/**
 * Calls to Vault by path: node-vault over our own transport, with the token that is valid now, a
 * namespace for each call, and one more try where that can do no harm. Answers are still unknown
 * here.
 * @module
 */
import nodeVault from "node-vault";
import { hex } from "../../src/core/bytes.ts";
import type { Random } from "../../src/core/ports/clock.ts";
import type { Log } from "../../src/core/ports/log.ts";
import type { VaultConnection } from "./config.ts";
import { answerError, VaultError } from "./errors.ts";
import { createTokenKeeper, type TokenKeeper } from "./token-renewer.ts";
import { createTransport, type TransportAnswer, type VaultPlatform } from "./transport.ts";

/** What most calls take is some milliseconds; what is slower than this is as good as away. */
const TIMEOUT_MS = 10_000;
/** How often a call without effects is made again, and after which pause, in milliseconds. */
const RETRIES = [250, 1000];

export interface CallOptions {
  readonly namespace: string;
  readonly body?: Readonly<Record<string, unknown>>;
  /** Without a token, for what anybody may ask. */
  readonly anonymous?: boolean;
  /** Whether asking twice is as good as once. @default for GET and LIST alone */
  readonly repeatable?: boolean;
  readonly timeoutMs?: number;
}

export interface Session {
  /**
   * @returns parsed JSON, text for what is none, null for an answer without a body.
   * @throws {VaultError}
   * @throws {RateLimitedError}
   */
  call(
    method: "GET" | "LIST" | "POST" | "DELETE",
    path: string,
    options: CallOptions,
  ): Promise<unknown>;
  readonly token: TokenKeeper;
  close(): void;
}

export interface SessionOptions extends VaultPlatform {
  readonly connection: VaultConnection;
  readonly random: Random;
  readonly log: Log;
}

/** What node-vault hands to a transport, as far as we use it. */
interface Outgoing {
  readonly uri: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly timeoutMs: number;
}

/**
 * What we hand back, and get again where node-vault would make an error of it that has lost the
 * headers.
 */
interface Incoming extends TransportAnswer {
  readonly statusCode: number;
}

export function createSession(options: SessionOptions): Session {
  const { connection, clock, random, log, readFile } = options;
  const transport = createTransport(connection, options);
  const vault = nodeVault({
    endpoint: connection.address,
    // Its debug output has tokens and bodies in it.
    debug: () => undefined,
    // What is asked has types; it would be held to a schema for each call.
    tv4: { validate: () => true },
    "request-promise": { defaults: () => outgoing },
  } as unknown as nodeVault.VaultOptions);
  // What it took from the environment where it was given nothing.
  Object.assign(vault, {
    token: "",
    namespace: "",
    pathPrefix: "",
    handleVaultResponse: (answer: unknown) => answer,
  });

  async function outgoing({ uri, method, headers, json, timeoutMs }: Outgoing): Promise<Incoming> {
    const answer = await transport.send({
      url: uri,
      method,
      headers,
      body: json === undefined ? null : JSON.stringify(json),
      timeoutMs,
    });
    return { ...answer, statusCode: answer.status };
  }

  const once = async (
    token: string,
    method: string,
    path: string,
    { namespace, body, timeoutMs = TIMEOUT_MS }: CallOptions,
  ): Promise<unknown> => {
    const headers: Record<string, string> = { "X-Vault-Request": "true" };
    if (token !== "") headers["X-Vault-Token"] = token;
    if (namespace !== "") headers["X-Vault-Namespace"] = namespace;
    const request = {
      path: `/${path}${method === "LIST" ? "?list=true" : ""}`,
      method: method === "LIST" ? "GET" : method,
      headers,
      timeoutMs,
    };
    const answer: unknown = await vault.request(
      body === undefined ? request : { ...request, json: body },
    );
    return readAnswer(`${method} ${path}`, answer as Incoming);
  };

  /** Asks again what may be asked twice, where no answer came or Vault failed inside. */
  const persistent = async (act: () => Promise<unknown>, repeatable: boolean): Promise<unknown> => {
    for (const pause of repeatable ? RETRIES : []) {
      try {
        return await act();
      } catch (error) {
        const passing =
          error instanceof VaultError &&
          (error.reason === "unreachable" || (error.reason === "failing" && error.status !== 501));
        if (!passing) throw error;
        await clock.sleep(pause * (1 + random.fraction()));
      }
    }
    return act();
  };

  const token = createTokenKeeper({
    connection,
    call: (with_, method, path, body) => {
      const call = { namespace: connection.namespace, ...(body === null ? {} : { body }) };
      return persistent(() => once(with_, method, path, call), method === "GET");
    },
    beforeLogin: transport.reload,
    readFile,
    clock,
    random,
    log,
  });

  let namespaces: Promise<void> | null = null;
  /**
   * Vault without namespaces takes no notice of the header: what is meant for one would happen in
   * the root namespace. It is told by its answer for a namespace that cannot be there. @throws
   * {VaultError} `namespace_missing`
   */
  const requireNamespaces = (held: string): Promise<void> => {
    namespaces ??= persistent(
      () =>
        once(held, "GET", "auth/token/lookup-self", { namespace: `none-${hex(random.bytes(8))}` }),
      true,
    ).then(
      () => {
        throw new VaultError(
          "namespace_missing",
          "Vault: this server has no namespaces and would use the root one: configure none",
        );
      },
      (error: unknown) => {
        if (
          error instanceof VaultError &&
          (error.reason === "namespace_missing" ||
            error.reason === "denied" ||
            error.reason === "not_found")
        )
          return;
        namespaces = null;
        throw error;
      },
    );
    return namespaces;
  };

  return {
    async call(method, path, call) {
      const repeatable = call.repeatable ?? (method === "GET" || method === "LIST");
      if (call.anonymous === true)
        return persistent(() => once("", method, path, call), repeatable);
      const held = await token.get();
      if (call.namespace !== "") await requireNamespaces(held);
      try {
        return await persistent(() => once(held, method, path, call), repeatable);
      } catch (error) {
        // A token that is dead and one that may not are answered alike.
        if (
          !(error instanceof VaultError && error.reason === "denied") ||
          !(await token.denied(held))
        )
          throw error;
      }
      return persistent(async () => once(await token.get(), method, path, call), repeatable);
    },
    token,
    close() {
      token.close();
      transport.close();
    },
  };
}

function readAnswer(
  call: string,
  { status, text, isJson, retryAfterMs }: TransportAnswer,
): unknown {
  let body: unknown = text;
  if (isJson && text !== "") {
    try {
      body = JSON.parse(text);
    } catch {
      throw new VaultError("answer", `Vault: ${call}: its answer is not JSON`, status);
    }
  }
  // Health tells its states by statuses, and has the same body in all of them.
  if (status === 200 || status === 204 || (/ sys\/health$/.test(call) && typeof body === "object"))
    return text === "" ? null : body;
  const errors: unknown =
    typeof body === "object" && body !== null && "errors" in body ? body.errors : [];
  const list = Array.isArray(errors) ? errors.filter((error) => typeof error === "string") : [];
  // What a proxy in front of Vault says is not quoted; only Vault's own errors are.
  throw answerError(call, status, list, retryAfterMs);
}
