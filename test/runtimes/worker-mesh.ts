/**
 * Datacenters of which some are Workers: requests to them, and whether their leaves verify.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openssl, opensslCsr } from "../fakes/ca.ts";

/** The initial management token of each datacenter. */
export const TOKEN = "0123456789abcdef0123456789abcdef";

/** A certificate of servers on this machine, which is its own CA. @param folder where it is put. */
export function makeServerCertificate(folder: string): {
  readonly cert: string;
  readonly key: string;
} {
  const file = (name: string) => join(folder, name);
  const names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const common = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
  openssl(["req", ...common, ...names, "-keyout", file("key.pem"), "-out", file("cert.pem")]);
  return {
    cert: readFileSync(file("cert.pem"), "utf8"),
    key: readFileSync(file("key.pem"), "utf8"),
  };
}

interface Roots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly {
    readonly ID: string;
    readonly RootCert: string;
    readonly SigningKeyID: string;
  }[];
}
/** A server over HTTP: a Worker, a process, or a replica of this process. */
export type Call = (
  method: string,
  path: string,
  body?: object | string,
) => Promise<{ readonly status: number; readonly text: string }>;

export const caller =
  (url: string): Call =>
  async (method, path, body) => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { "X-Consul-Token": TOKEN },
      ...(body === undefined
        ? {}
        : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      tls: { rejectUnauthorized: false },
    } as RequestInit);
    return { status: answer.status, text: await answer.text() };
  };
export const ok = async (call: Call, method: string, path: string, body?: object | string) => {
  const { status, text } = await call(method, path, body);
  assert.equal(status, 200, `${method} ${path}: ${text}`);
  return text;
};
export const rootsOf = async (call: Call) =>
  JSON.parse(await ok(call, "GET", "/v1/connect/ca/roots")) as Roots;
export const activeOf = async (call: Call) => (await rootsOf(call)).ActiveRootID;
/** The key that signs the leaves. */
export const keyOf = async (call: Call) => {
  const { ActiveRootID, Roots } = await rootsOf(call);
  return Roots.find(({ ID }) => ID === ActiveRootID)?.SigningKeyID;
};
export const readyOf = async (call: Call) => (await call("GET", "/readyz")).text;

/** Requires that a leaf of each verifies under each root of each, alone, by openssl. */
export async function requireMutual(
  folder: string,
  ...servers: readonly (readonly [Call, string])[]
): Promise<void> {
  for (const [call, datacenter] of servers) {
    const { TrustDomain } = await rootsOf(call);
    const { csr } = opensslCsr(`URI:spiffe://${TrustDomain}/ns/default/dc/${datacenter}/svc/web`);
    const { CertPEM } = JSON.parse(await ok(call, "PUT", "/v1/connect/ca/sign", csr)) as {
      CertPEM: string;
    };
    writeFileSync(join(folder, "leaf.pem"), CertPEM);
    for (const [publisher] of servers)
      for (const { RootCert, ID } of (await rootsOf(publisher)).Roots) {
        writeFileSync(join(folder, "root.pem"), RootCert);
        const files = ["-CAfile", "root.pem", "-untrusted", "leaf.pem", "leaf.pem"];
        const verified = execFileSync("openssl", ["verify", "-x509_strict", ...files], {
          cwd: folder,
          encoding: "utf8",
        });
        assert.match(verified, /: OK\n$/, `${datacenter} under ${ID}`);
      }
  }
}

/** A token of a primary that may have intermediates signed. */
export async function replicationToken(primary: Call): Promise<string> {
  const policy = { Name: "dc", Rules: 'intermediate = "write"' };
  const { ID } = JSON.parse(await ok(primary, "PUT", "/v1/acl/policy", policy)) as { ID: string };
  const token = await ok(primary, "PUT", "/v1/acl/token", { Policies: [{ ID }] });
  return (JSON.parse(token) as { SecretID: string }).SecretID;
}
