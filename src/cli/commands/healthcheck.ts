/**
 * `meshca healthcheck`: whether the server that these settings describe answers, on this machine.
 * @module
 */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect, type TLSSocket } from "node:tls";
import type { Settings } from "../../config/settings.ts";
import { CaError } from "../../core/errors.ts";
import { settingsOf } from "./serve.ts";

/**
 * Milliseconds for the answer: less than the three seconds that a supervisor usually gives the
 * command.
 */
const TIMEOUT_MS = 2000;

/**
 * Asks `/healthz`. The certificate of the server is not verified: the connection stays on this
 * machine, and what is asked is whether the server answers, also with an emergency certificate.
 * @returns the exit code: 0 if it answers, else 1
 */
export async function healthcheckCommand(
  environment: NodeJS.ProcessEnv = process.env,
): Promise<0 | 1> {
  try {
    const settings = settingsOf(environment);
    const { host, port } = settings.listen;
    if (port === 0)
      throw new Error(
        "MESHCA_LISTEN has port 0: the system chose the port, which is not known here",
      );
    await (settings.tls?.clientCa != null && settings.tls.clientCertificate === "required"
      ? handshake
      : ask)(reachable(host), port, settings);
    return 0;
  } catch (error) {
    const reason = error instanceof CaError || error instanceof Error ? error.message : "unknown";
    process.stderr.write(`Not healthy: ${reason}\n`);
    return 1;
  }
}

/** An address to connect to, for one to listen on. */
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
      reject(new Error(`${where(host, port)} ${reason}`));
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
      fail(`cannot be asked: ${codeOf(error)}`);
    });
    request.end();
  });
}

/**
 * A server that requires client certificates answers nothing without one: it is alive if it shows
 * its own.
 */
function handshake(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let socket: TLSSocket | null = null;
    const end = (reason: string | null) => {
      clearTimeout(late);
      if (reason === null) resolve();
      else reject(new Error(`${where(host, port)} ${reason}`));
      socket?.destroy();
    };
    const late = setTimeout(() => end("does not answer in time"), TIMEOUT_MS);
    // Called once the server's certificate has come, before it knows that the client has none.
    socket = connect({ host, port, servername: "localhost", rejectUnauthorized: false }, () =>
      end(null),
    );
    socket.on("error", (error) =>
      end(
        socket?.getPeerCertificate()?.raw === undefined
          ? `cannot be asked: ${codeOf(error)}`
          : null,
      ),
    );
  });
}

const where = (host: string, port: number) =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

function codeOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : error.message;
}
