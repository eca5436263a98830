/**
 * `meshca healthcheck`: whether the server with these settings answers on this machine.
 * @module
 */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect, type TLSSocket } from "node:tls";
import { hostPort } from "../../config/addresses.ts";
import { errorCode } from "../../config/file-errors.ts";
import type { Settings } from "../../config/settings.ts";
import { settingsOf } from "./serve.ts";

/** The time for a response, in milliseconds: less than the 3 s of most supervisors. */
const TIMEOUT_MS = 2000;

/**
 * Requests `/healthz`. The certificate of the server is not verified: the connection stays on this
 * machine, and a server with its fallback certificate is healthy, too.
 * @returns the exit code: 0 if the server answers with 200, else 1
 */
export async function healthcheckCommand(
  environment: NodeJS.ProcessEnv = process.env,
): Promise<0 | 1> {
  try {
    const settings = settingsOf(environment);
    const { host, port } = settings.listen;
    if (port === 0)
      throw new Error(
        "MESHCA_LISTEN has port 0: the port that the system chose is not known to this command",
      );
    await (settings.tls?.clientCa != null && settings.tls.clientCertificate === "required"
      ? handshake
      : ask)(reachable(host), port, settings);
    return 0;
  } catch (error) {
    const reason = error instanceof Error ? error.message : "unknown";
    process.stderr.write(`Not healthy: ${reason}\n`);
    return 1;
  }
}

/** An address to connect to, for an address to listen on. */
function reachable(host: string): string {
  return host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
}

function ask(host: string, port: number, { tls, hosts }: Settings): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = {
      host,
      port,
      path: "/healthz",
      timeout: TIMEOUT_MS,
      headers: { Host: hosts?.[0] ?? "localhost" },
      agent: false,
    } as const;
    const request =
      tls === null ? requestHttp(options) : requestHttps({ ...options, rejectUnauthorized: false });
    const fail = (reason: string) => {
      reject(new Error(`${hostPort(host, port)} ${reason}`));
      request.destroy();
    };
    const late = setTimeout(() => fail("does not answer in time"), TIMEOUT_MS);
    request.once("response", (response) => {
      clearTimeout(late);
      response.resume();
      if (response.statusCode === 200) resolve();
      else fail(`answers /healthz with ${response.statusCode}`);
      request.destroy();
    });
    request.on("error", (error) => {
      clearTimeout(late);
      fail(`cannot be reached: ${codeOf(error)}`);
    });
    request.end();
  });
}

/** A server that requires client certificates answers no request; showing its own is enough. */
function handshake(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let socket: TLSSocket | null = null;
    const end = (reason: string | null) => {
      clearTimeout(late);
      if (reason === null) resolve();
      else reject(new Error(`${hostPort(host, port)} ${reason}`));
      socket?.destroy();
    };
    const late = setTimeout(() => end("does not answer in time"), TIMEOUT_MS);
    // Called when the server's certificate arrives, before the server misses the client's.
    socket = connect({ host, port, servername: "localhost", rejectUnauthorized: false }, () =>
      end(null),
    );
    socket.on("error", (error) =>
      end(
        socket?.getPeerCertificate()?.raw === undefined
          ? `cannot be reached: ${codeOf(error)}`
          : null,
      ),
    );
  });
}

function codeOf(error: Error): string {
  return errorCode(error) ?? error.message;
}
