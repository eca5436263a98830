/**
 * A client of one server under test: it sends what the test gives it, and chains are checked by
 * OpenSSL.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { inFolder, openssl, opensslCsr } from "../fakes/ca.ts";
import { type RawAnswer, type RawRequest, send } from "../fixtures/raw.ts";

export const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
/** Access control is on: a Worker does not serve without it. */
export const SETTINGS = {
  MESHCA_ACL: "deny",
  MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
} as const;
export const CONFIGURATION = "/v1/connect/ca/configuration";
export const ROOTS = "/v1/connect/ca/roots";
export const SIGN = "/v1/connect/ca/sign";

export interface Call {
  readonly body?: unknown;
  readonly type?: string;
  /** The management token, another one, or none. @default the management token */
  readonly token?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
  readonly chunkSize?: number;
}

/** Sends one request. A body that is not text is sent as JSON. */
export async function call(
  url: string,
  method: string,
  target: string,
  options: Call = {},
): Promise<RawAnswer> {
  const { body, type, token = MANAGEMENT, headers = {}, chunkSize } = options;
  const request: RawRequest = {
    method,
    target,
    headers: {
      ...(token === null ? {} : { "X-Consul-Token": token }),
      ...(type === undefined ? {} : { "Content-Type": type }),
      ...headers,
    },
    body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
    ...(chunkSize === undefined ? {} : { chunkSize }),
  };
  const answer = await send(Number(new URL(url).port), request);
  assert.ok(answer !== null, `${method} ${target}: the connection was closed without an answer`);
  return answer;
}

/** Sends one request that must succeed. @returns its JSON */
export async function json<T>(
  url: string,
  method: string,
  target: string,
  options: Call = {},
): Promise<T> {
  const answer = await call(url, method, target, options);
  assert.equal(answer.status, 200, `${method} ${target}: ${answer.body}`);
  return JSON.parse(answer.body) as T;
}

export interface Roots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly {
    readonly ID: string;
    readonly RootCert: string;
    readonly Active: boolean;
  }[];
}

export const roots = (url: string): Promise<Roots> =>
  json<Roots>(url, "GET", ROOTS, { token: null });

export const serviceUri = (trustDomain: string, service: string) =>
  `spiffe://${trustDomain}/ns/default/dc/dc1/svc/${service}`;

export interface Leaf {
  /** PEM of the leaf and its intermediates. */
  readonly chain: string;
  readonly key: string;
}

/** Gets a leaf. @param newkey OpenSSL's arguments for its key */
export async function leaf(
  url: string,
  service: string,
  newkey?: readonly string[],
): Promise<Leaf> {
  const { TrustDomain } = await roots(url);
  const { csr, key } = opensslCsr(`URI:${serviceUri(TrustDomain, service)}`, newkey);
  const answer = await call(url, "PUT", SIGN, {
    body: csr,
    headers: { Accept: "application/pem-certificate-chain" },
  });
  assert.equal(answer.status, 200, answer.body);
  return { chain: answer.body, key };
}

/** Verifies a chain with OpenSSL under one root only. @throws if it does not verify */
export function verifies(chain: string, root: string): void {
  inFolder((folder) => {
    const [leafFile, rootFile] = [join(folder, "leaf.pem"), join(folder, "root.pem")];
    writeFileSync(leafFile, chain);
    writeFileSync(rootFile, root);
    openssl(["verify", "-x509_strict", "-CAfile", rootFile, "-untrusted", leafFile, leafFile]);
  });
}

/** What a client can see of the CA's state, with the index that grows with every change. */
export async function visible(url: string): Promise<readonly (string | undefined)[]> {
  const [configuration, published] = [
    await call(url, "GET", CONFIGURATION),
    await call(url, "GET", ROOTS),
  ];
  assert.deepEqual([configuration.status, published.status], [200, 200]);
  return [configuration.body, published.body, published.header("X-Consul-Index")];
}
