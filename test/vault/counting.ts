/**
 * A proxy before Vault on loopback that records what reaches it, and can stop to answer.
 * @module
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { VaultServer } from "./server.ts";

export interface CountingProxy {
  /** In place of Vault's. */
  readonly address: string;
  /** The requests so far: method and path. */
  readonly requests: readonly string[];
  stop(): Promise<void>;
}

export async function startCounting({ address }: VaultServer): Promise<CountingProxy> {
  const requests: string[] = [];
  const relay = async (request: IncomingMessage, response: ServerResponse) => {
    const { method = "GET", url = "/" } = request;
    requests.push(`${method} ${url}`);
    const chunks: Uint8Array[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const headers = Object.entries(request.headers).filter(([name]) =>
      name.startsWith("x-vault-"),
    ) as [string, string][];
    const body = chunks.length === 0 ? {} : { body: Buffer.concat(chunks) };
    const answer = await fetch(`${address}${url}`, { method, headers, ...body });
    const type = answer.headers.get("Content-Type") ?? "text/plain";
    response.writeHead(answer.status, { "Content-Type": type });
    response.end(new Uint8Array(await answer.arrayBuffer()));
  };
  const server = createServer((request, response) => {
    relay(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("It does not listen");
  return {
    address: `http://127.0.0.1:${bound.port}`,
    requests,
    stop() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
