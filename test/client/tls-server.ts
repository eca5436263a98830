/**
 * A CA server with TLS in this process, with the certificate that a test chooses; and the certificates
 * of a mesh, of its workloads and of another CA.
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { readPem } from "../../src/core/pem.ts";
import { generateCaKey } from "../../src/core/x509/authority.ts";
import { makeRequest, privateKeyPem } from "../../src/core/x509/request.ts";
import { createTestCa, inFolder, openssl, trustDomain } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { createTestApp, type TestApp } from "../fixtures/app.ts";

export interface KeyPair {
  readonly key: string;
  /** The leaf and its chain. */
  readonly cert: string;
}

/** A CA in this process at the time of the clock, since TLS libraries look at that one. */
export async function createMesh(): Promise<TestApp> {
  return createTestApp({}, await createTestCa({ clock: createFakeClock(new Date()) }));
}

/** A certificate of the mesh. @param path of the SPIFFE ID. */
export async function meshPair(
  { manager }: Pick<TestApp, "manager">,
  path: string,
): Promise<KeyPair> {
  const key = await generateCaKey({ type: "ec", bits: 256 });
  const uri = `spiffe://${trustDomain(manager)}${path}`;
  const request = await makeRequest(key, { uri, dnsNames: [], ipAddresses: [] });
  const leaf = await manager.sign(request);
  return { key: await privateKeyPem(key.privateKey), cert: leaf.certificatePem };
}

/** The active root of the mesh: DER and PEM. */
export function meshRoot({ manager }: Pick<TestApp, "manager">): { der: Uint8Array; pem: string } {
  const { certificate } = manager.require().active;
  const body = Buffer.from(certificate.der).toString("base64");
  return {
    der: certificate.der,
    pem: `-----BEGIN CERTIFICATE-----\n${body.replaceAll(/(.{64})/g, "$1\n")}\n-----END CERTIFICATE-----\n`,
  };
}

/** A CA made by openssl. @param uri of the root's own SPIFFE ID, or null. */
export function makeOtherCa(uri: string | null): {
  readonly pem: string;
  /** A certificate with these subject alternative names. */
  issue(names: string): KeyPair;
} {
  return inFolder((folder) => {
    const path = (name: string) => join(folder, name);
    const p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    const san = uri === null ? [] : ["-addext", `subjectAltName=URI:${uri}`];
    const out = ["-keyout", path("ca.key"), "-out", path("ca.pem")];
    openssl([
      ...["req", "-x509", ...p256, "-days", "2", "-subj", "/CN=Other CA", ...out, ...san],
      ...["-addext", "basicConstraints=critical,CA:TRUE"],
      ...["-addext", "keyUsage=critical,keyCertSign"],
    ]);
    const [caKey, pem] = ["ca.key", "ca.pem"].map((name) => readFileSync(path(name), "utf8"));
    return {
      pem: pem as string,
      issue: (names) =>
        inFolder((own) => {
          const at = (name: string) => join(own, name);
          writeFileSync(at("ca.key"), caKey as string);
          writeFileSync(at("ca.pem"), pem as string);
          const lines = [
            `subjectAltName=${names}`,
            "extendedKeyUsage=serverAuth,clientAuth",
            "keyUsage=critical,digitalSignature",
          ];
          writeFileSync(at("ext"), `${lines.join("\n")}\n`);
          const request = ["-subj", "/CN=server", "-keyout", at("key"), "-out", at("csr")];
          openssl(["req", ...p256, ...request]);
          const signed = ["-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial"];
          openssl([
            ...["x509", "-req", "-in", at("csr"), ...signed, "-days", "1"],
            ...["-extfile", at("ext"), "-out", at("cert")],
          ]);
          return { key: readFileSync(at("key"), "utf8"), cert: readFileSync(at("cert"), "utf8") };
        }),
    };
  });
}

export interface TlsServer {
  readonly url: string;
  /** `METHOD PATH TOKEN` of each request. */
  readonly asked: string[];
  /** Uses another certificate for connections from now on. */
  use(pair: KeyPair): void;
  stop(): Promise<void>;
}

/** Serves the app of a CA with TLS. @param host that the URL names. */
export async function startTlsServer(
  { app }: Pick<TestApp, "app">,
  pair: KeyPair,
  host = "localhost",
): Promise<TlsServer> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ ...pair, minVersion: "TLSv1.2" }, (request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += String(chunk);
    });
    request.on("end", async () => {
      const { method = "", url = "", headers } = request;
      asked.push(`${method} ${url} ${headers["x-consul-token"] ?? headers.authorization ?? "-"}`);
      const init: RequestInit = { method, headers: headers as Record<string, string> };
      if (method !== "GET") init.body = body;
      const answer = await app.fetch(new Request(`http://127.0.0.1:8500${url}`, init));
      response.writeHead(answer.status, Object.fromEntries(answer.headers));
      response.end(await answer.text());
    });
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
  });
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `https://${host}:${(server.address() as AddressInfo).port}`,
    asked,
    use: (other) => server.setSecureContext(other),
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** How many certificates a text has. */
export const certificatesIn = (pem: string): number => readPem(pem).length;
