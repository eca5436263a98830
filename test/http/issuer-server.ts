/**
 * A host over TLS with a CA of its own, on a free port, which answers what a test says: an API
 * server or an issuer.
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { inFolder, openssl } from "../fakes/ca.ts";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: string;
}

export interface IssuerServer {
  /** `https://127.0.0.1:port`. */
  readonly url: string;
  /** `127.0.0.1:port`. */
  readonly host: string;
  /** PEM of its CA. */
  readonly ca: string;
  readonly asked: Asked[];
  stop(): Promise<void>;
}

/** Makes a CA and a certificate for 127.0.0.1 with it. */
function makeCertificates(): { ca: string; cert: string; key: string } {
  return inFolder((folder) => {
    const at = (name: string) => join(folder, name);
    const p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    const ca = [
      "-x509",
      "-days",
      "2",
      "-subj",
      "/CN=issuer test CA",
      "-keyout",
      at("ca.key"),
      "-out",
      at("ca.pem"),
    ];
    openssl([
      "req",
      ...p256,
      ...ca,
      "-addext",
      "basicConstraints=critical,CA:TRUE",
      "-addext",
      "keyUsage=critical,keyCertSign",
    ]);
    openssl([
      "req",
      ...p256,
      "-subj",
      "/CN=127.0.0.1",
      "-keyout",
      at("key.pem"),
      "-out",
      at("csr.pem"),
    ]);
    writeFileSync(at("ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n");
    const signed = [
      "-CA",
      at("ca.pem"),
      "-CAkey",
      at("ca.key"),
      "-CAcreateserial",
      "-days",
      "1",
      "-extfile",
      at("ext"),
    ];
    openssl(["x509", "-req", "-in", at("csr.pem"), ...signed, "-out", at("cert.pem")]);
    const read = (name: string) => readFileSync(at(name), "utf8");
    return { ca: read("ca.pem"), cert: read("cert.pem"), key: read("key.pem") };
  });
}

/** @param answer the status and the JSON for what is asked. */
export async function startIssuer(
  answer: (asked: Asked) => readonly [status: number, body: unknown],
): Promise<IssuerServer> {
  const { ca, cert, key } = makeCertificates();
  const asked: Asked[] = [];
  const server = createServer({ cert, key }, (request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (chunk: string) => {
      body += chunk;
    });
    request.on("end", () => {
      const { method = "", url: path = "", headers } = request;
      const question = { method, path, authorization: headers.authorization, body };
      asked.push(question);
      const [status, content] = answer(question);
      response
        .writeHead(status, { "Content-Type": "application/json" })
        .end(JSON.stringify(content));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `https://${host}`,
    host,
    ca,
    asked,
    stop: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
