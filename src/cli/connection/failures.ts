/**
 * The reasons why a server could not be called, or answered with an error, in words with the way
 * out.
 * @module
 */
import type { TransportError } from "../../client/transport.ts";
import { hex, sha256 } from "../../core/bytes.ts";
import { readOrNull } from "../../core/errors.ts";
import { readCertificate } from "../../core/x509/certificate.ts";
import { processClock } from "../../entry/system.ts";
import { EXIT, Failure } from "../output.ts";
import type { ServerOptions } from "./address.ts";
import { type Answer, peerOf } from "./exchange.ts";

/** Of the text of an error. */
const MAX_TEXT = 2000;

/** A server answered with an error. */
export class HttpFailure extends Failure {
  readonly status: number;
  /** The body as it was sent, without the white space at its end. */
  readonly body: string;

  constructor(exit: number, message: string, { status, body }: Answer) {
    super(exit, message);
    this.name = "HttpFailure";
    this.status = status;
    this.body = body.trimEnd();
  }

  /** In the words of Consul's command line. */
  get consulText(): string {
    return `Unexpected response code: ${this.status} (${this.body})`;
  }
}

/** What was asked, for a text. */
interface Question {
  readonly method: string;
  readonly path: string;
}

/**
 * That the server is not one of meshca or Consul.
 * @param server as it was named @param reason a clause: `its answer is ...`
 */
export function foreignServer(server: string, reason: string): Failure {
  return new Failure(
    EXIT.protocol,
    `The server at ${server} does not speak the API of meshca and Consul: ${reason}; check the address`,
  );
}

/** The reason in an answer that is an error. */
export function answerFailure(
  { name, token }: Pick<ServerOptions, "name" | "token">,
  answer: Answer,
  { method, path }: Question,
): Failure {
  const { status } = answer;
  const what = `${method} ${path}`;
  const text = oneLine(answer.body);
  const isHtml = /html|xml/i.test(answer.header("content-type") ?? "");
  if (status >= 300 && status < 400)
    return foreignServer(name, `it answered ${what} with a redirection (${status})`);
  if (isHtml) return foreignServer(name, `it answered ${what} with ${status} and a page`);
  if (status === 403)
    return new HttpFailure(
      EXIT.permission,
      `${text.replace(/\.$/, "") || "Permission denied"}; ${tokenAdvice(token !== null, text)}`,
      answer,
    );
  if (status === 404 && /not a recognized HTTP API endpoint/.test(text))
    return new HttpFailure(
      EXIT.protocol,
      `The server at ${name} does not have the route ${what}: it is Consul or an older meshca`,
      answer,
    );
  return new HttpFailure(
    exitOfStatus(status),
    text === "" ? `The server at ${name} answered ${what} with ${status}` : text,
    answer,
  );
}

function tokenAdvice(wasSent: boolean, text: string): string {
  if (!wasSent)
    return "no token was sent: give one by --token-file, MESHCA_HTTP_TOKEN_FILE or MESHCA_HTTP_TOKEN";
  if (/ACL not found/i.test(text))
    return "the server does not know the token that was sent: it was deleted, has expired, or is of another cluster";
  return "give a token with this right by --token-file or MESHCA_HTTP_TOKEN";
}

/** An error of the transport in words, with the way out. */
export async function transportFailure(
  options: ServerOptions,
  error: TransportError,
): Promise<Failure> {
  const server = `The server at ${options.name}`;
  const fail = (text: string, exit: number = EXIT.unavailable) => new Failure(exit, text, error);
  switch (error.fault) {
    case "tls":
      return fail(await tlsText(options, error.message));
    case "connect":
      return fail(connectText(server, error.message, options));
    case "timeout":
      return fail(`${server} ${error.message}; try again, or look at its log`, EXIT.temporary);
    case "malformed":
      return foreignServer(
        options.name,
        options.url.protocol === "http:"
          ? `it ${error.message}, perhaps because it serves TLS (https://)`
          : `it ${error.message}`,
      );
    default:
      return fail(`${server} ${error.message}`);
  }
}

async function tlsText(options: ServerOptions, reason: string): Promise<string> {
  const server = `The server at ${options.name}`;
  const peer = await peerOf(options).catch(() => null);
  if (/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/.test(reason))
    return `${server} does not speak TLS 1.2 or a newer version (${reason})`;
  // Without a certificate there was no handshake at all.
  if (peer === null)
    return `${server} did not complete the TLS handshake (${reason}); it may serve plain HTTP (http://) or require a client certificate (--client-cert, --client-key)`;
  if (/ALERT/.test(reason))
    return `${server} refused the TLS connection (${reason}); it requires a client certificate that its CA issued (--client-cert, --client-key)`;
  const pin = `--server-pin sha256:${hex(sha256(peer.leaf))}, after comparing it with the fingerprint in the server's log`;
  if (/^has another certificate/.test(reason)) return `${server} ${reason}`;
  // Not every runtime says why it refused a certificate.
  const now = processClock.now();
  const shown = [peer.leaf, ...peer.chain].map((der) => readOrNull(() => readCertificate(der)));
  if (/CERT_HAS_EXPIRED/.test(reason) || shown.some((one) => one !== null && one.notAfter < now))
    return `${server} has a TLS certificate that has expired, or one in its chain; give ${pin}`;
  if (/CERT_NOT_YET_VALID/.test(reason) || shown.some((one) => one !== null && one.notBefore > now))
    return `${server} has a TLS certificate that is not valid yet; set the clocks of both machines right`;
  if (/^has a certificate for another name/.test(reason))
    return `${server} ${reason}; give the name by --tls-server-name, or ${pin}`;
  const by =
    options.anchorsPem === null
      ? "by the CAs that this machine trusts; give its CA by --ca-file"
      : "by the CA file; give the roots that are published now (GET /v1/connect/ca/roots?pem=true)";
  return `${server} cannot be verified ${by}, or ${pin} (${reason})`;
}

function connectText(
  server: string,
  reason: string,
  { socketPath, url }: Pick<ServerOptions, "socketPath" | "url">,
): string {
  if (reason === "ECONNREFUSED")
    return `${server} refused the connection; check the address (--http-addr, MESHCA_HTTP_ADDR), and that the server runs`;
  if (reason === "ENOENT" && socketPath !== null)
    return `${server} has no socket at this path; check the address, and that the server runs`;
  if (reason === "ENOTFOUND" || reason === "EAI_AGAIN")
    return `${server} has a name without an address (${reason}); check --http-addr`;
  if (/^(?:ECONNRESET|connection failed|closed the connection too early)$/.test(reason))
    return url.protocol === "http:"
      ? `${server} closed the connection before it answered; it may serve TLS (https://)`
      : `${server} closed the connection before it answered; it may require a client certificate (--client-cert, --client-key)`;
  return `${server} cannot be reached (${reason})`;
}

function exitOfStatus(status: number): number {
  if (status === 409 || status === 429 || status === 503) return EXIT.temporary;
  if (status === 401) return EXIT.config;
  return status < 500 ? EXIT.data : EXIT.unavailable;
}

/** A text of a server in one line, without control characters. */
function oneLine(text: string): string {
  return text
    .slice(0, MAX_TEXT)
    .replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, " ")
    .trim();
}
