/**
 * Certificates by openssl, and clients that return the server certificate they received.
 * @module
 */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type ClientHttp2Session, connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import { openssl } from "../fakes/ca.ts";

export interface Made {
  readonly cert: string;
  readonly key: string;
}

/** A self-signed certificate for localhost, for 30 days. */
export function selfSigned(
  name: string,
  newkey = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
): Made {
  return inNewFolder((folder) => {
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const names = `subjectAltName=DNS:localhost,IP:127.0.0.1,URI:spiffe://test/${name}`;
    openssl([
      "req",
      "-x509",
      "-newkey",
      ...newkey,
      "-nodes",
      "-keyout",
      key,
      "-out",
      cert,
      "-days",
      "30",
      "-subj",
      `/CN=${name}`,
      "-addext",
      names,
    ]);
    return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
  });
}

/** Runs `work` with a folder that is removed afterwards. */
export function inNewFolder<T>(work: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), "meshca-tls-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  let result: T;
  try {
    result = work(folder);
  } catch (error) {
    remove();
    throw error;
  }
  if (result instanceof Promise) return result.finally(remove) as T;
  remove();
  return result;
}

export interface TlsAnswer {
  readonly status: number;
  readonly body: string;
  /** Serial of the certificate that the server showed. */
  readonly serial: string;
}

/**
 * One HTTP/1.1 request over a connection of its own; the answer is read to its end. Rejects when
 * there is no answer.
 */
export async function get(
  port: number,
  path: string,
  options: ConnectionOptions = {},
): Promise<TlsAnswer> {
  const client = await openHttp1(port, options);
  try {
    return await client.get(path);
  } finally {
    client.socket.destroy();
  }
}

export interface Http1Client {
  readonly socket: TLSSocket;
  get(path: string): Promise<TlsAnswer>;
}

/** A connection over which requests go one after the other. */
export function openHttp1(port: number, options: ConnectionOptions = {}): Promise<Http1Client> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host: "127.0.0.1",
      port,
      servername: "localhost",
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
      ...options,
    });
    socket.setEncoding("utf8");
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("The connection was closed")));
    socket.once("secureConnect", () =>
      resolve({
        socket,
        get: (path) =>
          new Promise((give, fail) => {
            let text = "";
            const closed = () => fail(new Error("The connection was closed"));
            const read = (chunk: string) => {
              text += chunk;
              const end = text.indexOf("\r\n\r\n");
              if (end < 0) return;
              const head = text.slice(0, end);
              const body = bodyOf(head, text.slice(end + 4));
              if (body === null) return;
              socket.off("data", read).off("close", closed);
              give({
                status: Number(head.split(" ")[1]),
                body,
                serial: socket.getPeerCertificate().serialNumber,
              });
            };
            socket.on("data", read);
            socket.once("close", closed);
            socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
          }),
      }),
    );
  });
}

/** A body that was received so far; null if there is more of it. Node sends some in chunks. */
function bodyOf(head: string, received: string): string | null {
  if (/^transfer-encoding: chunked$/im.test(head))
    return received.endsWith("0\r\n\r\n")
      ? received.replaceAll(/(?:^|\r\n)[0-9a-f]+\r\n/gi, "").replace(/\r\n$/, "")
      : null;
  const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1]);
  return Buffer.byteLength(received) < length ? null : received;
}

export interface Http2Client {
  readonly session: ClientHttp2Session;
  request(
    path: string,
    headers?: Readonly<Record<string, string>>,
    body?: string | Uint8Array,
  ): Promise<Omit<TlsAnswer, "serial">>;
}

export function openHttp2(port: number, options: ConnectionOptions = {}): Promise<Http2Client> {
  return new Promise((resolve, reject) => {
    const session = connect(`https://localhost:${port}`, { rejectUnauthorized: false, ...options });
    session.once("error", reject);
    session.once("connect", () =>
      resolve({
        session,
        request: (path, headers = {}, body) =>
          new Promise((give, fail) => {
            const stream = session.request({
              ":path": path,
              ":method": body === undefined ? "GET" : "PUT",
              ...headers,
            });
            let [status, text] = [0, ""];
            stream.setEncoding("utf8");
            stream.on("response", (answer) => {
              status = Number(answer[":status"]);
            });
            stream.on("data", (chunk: string) => {
              text += chunk;
            });
            stream.on("end", () =>
              status === 0
                ? fail(new Error("The stream ended without an answer"))
                : give({ status, body: text }),
            );
            stream.on("error", fail);
            stream.end(body);
          }),
      }),
    );
  });
}

/**
 * A handshake by openssl, which fails if the certificate does not verify under `ca`.
 * @returns the serial that was shown
 */
export function opensslHandshake(
  port: number,
  caFile: string,
  more: readonly string[] = [],
): Promise<string> {
  const args = [
    "s_client",
    "-connect",
    `localhost:${port}`,
    "-CAfile",
    caFile,
    "-verify_return_error",
    "-verify_hostname",
    "localhost",
    ...more,
  ];
  return new Promise((resolve, reject) => {
    const child = execFile("openssl", args, { encoding: "utf8" }, (error, stdout, stderr) => {
      if (error !== null) return reject(new Error(`${error.message}: ${stderr}`));
      const pem =
        /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/.exec(stdout)?.[0] ?? "";
      resolve(openssl(["x509", "-noout", "-serial"], pem).trim());
    });
    child.stdin?.end();
  });
}
