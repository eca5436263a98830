/**
 * Requests that must be refused, and the proof that a refusal changed nothing.
 * @module
 */
import assert from "node:assert/strict";
import type { ServerProcess } from "./process.ts";
import { type RawAnswer, type RawRequest, send } from "./raw.ts";

/** What a client can see of the CA's state, with the index that grows with every change. */
async function visible(port: number): Promise<(string | undefined)[]> {
  const configuration = await send(port, { method: "GET", target: "/v1/connect/ca/configuration" });
  const roots = await send(port, { method: "GET", target: "/v1/connect/ca/roots" });
  assert.deepEqual([configuration?.status, roots?.status], [200, 200]);
  return [configuration?.body, roots?.body, roots?.header("X-Consul-Index")];
}

/** Sends a request, and checks its refusal, what the refusal says, and that nothing has changed. */
export async function refuses(
  server: ServerProcess,
  request: RawRequest,
  status: number,
  says: string | RegExp,
): Promise<RawAnswer> {
  const before = await visible(server.port);
  const answer = await send(server.port, request);
  assert.ok(answer !== null, "the connection was closed without an answer");
  if (typeof says === "string") assert.deepEqual([answer.status, answer.body], [status, says]);
  else {
    assert.match(answer.body, says);
    assert.equal(answer.status, status, answer.body);
  }
  if (answer.body !== "") assert.equal(answer.header("Content-Type"), "text/plain; charset=utf-8");
  assert.deepEqual(await visible(server.port), before, "the refused request changed something");
  return answer;
}

/** A change of the configuration. A body that is not text is sent as JSON. */
export function put(body: unknown): RawRequest {
  return {
    method: "PUT",
    target: "/v1/connect/ca/configuration",
    body: typeof body === "string" ? body : JSON.stringify(body),
  };
}

/** A request for a leaf. */
export function sign(body: string, type = "application/pkcs10"): RawRequest {
  return { method: "PUT", target: "/v1/connect/ca/sign", body, headers: { "Content-Type": type } };
}
