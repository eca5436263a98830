/**
 * `meshca healthcheck`: whether the server with these settings, or an agent, answers on this machine.
 * @module
 */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect, type TLSSocket } from "node:tls";
import { hostPort } from "../../config/addresses.ts";
import { readAgentListen } from "../../config/agent-schema.ts";
import { errorCode } from "../../config/file-errors.ts";
import type { Settings } from "../../config/settings.ts";
import { settingsOf } from "./serve.ts";

/** The time for a response, in milliseconds: less than the 3 s of most supervisors. */
const TIMEOUT_MS = 2000;

export interface HealthcheckOptions {
  /** The listener of an agent, `HOST:PORT` or `unix:PATH`, in place of the server. */
  readonly agent?: string | undefined;
  /** Whether it must be ready (`/readyz`), and not only answer (`/healthz`). */
  readonly ready?: boolean | undefined;
}

/**
 * Requests `/healthz` or `/readyz`. The certificate of the server is not verified: the connection
 * stays on this machine, and a server with its fallback certificate is healthy, too.
 * @returns the exit code: 0 if the server or agent answers with 200, else 1
 */
export async function healthcheckCommand(
  environment: NodeJS.ProcessEnv = process.env,
  { agent, ready = false }: HealthcheckOptions = {},
): Promise<0 | 1> {
  const path = ready ? "/readyz" : "/healthz";
  try {
    if (agent === undefined) await checkServer(settingsOf(environment), path);
    else await ask(agentListener(agent), path, { secure: false, hostHeader: "localhost" });
    return 0;
  } catch (error) {
    const reason = error instanceof Error ? error.message : "unknown";
    process.stderr.write(`Not healthy: ${reason}\n`);
    return 1;
  }
}

async function checkServer(settings: Settings, path: string): Promise<void> {
  const { listen, tls, hosts } = settings;
  if (listen.port === 0)
    throw new Error(
      "MESHCA_LISTEN has port 0: the port that the system chose is not known to this command",
    );
  const host = reachable(listen.host);
  if (tls?.clientCa == null || tls.clientCertificate !== "required")
    return ask({ host, port: listen.port }, path, {
      secure: tls !== null,
      hostHeader: hosts?.[0] ?? "localhost",
    });
  if (path === "/readyz")
    throw new Error(
      "the server requires client certificates, so that this command cannot ask whether it is ready; leave out --ready",
    );
  await handshake(host, listen.port);
}

/** An address to connect to, for an address to listen on. */
function reachable(host: string): string {
  return host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
}

type Target = { readonly host: string; readonly port: number } | { readonly socketPath: string };

/** @throws {Error} if the text is not the address of a listener */
function agentListener(text: string): Target {
  const read = readAgentListen(text);
  if (typeof read === "string") throw new Error(`--agent ${read}`);
  return "path" in read ? { socketPath: read.path } : read;
}

const nameOf = (target: Target): string =>
  "socketPath" in target ? `unix:${target.socketPath}` : hostPort(target.host, target.port);

function ask(
  target: Target,
  path: string,
  { secure, hostHeader }: { readonly secure: boolean; readonly hostHeader: string },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = {
      ...target,
      path,
      timeout: TIMEOUT_MS,
      headers: { Host: hostHeader },
      agent: false,
    } as const;
    const request = secure
      ? requestHttps({ ...options, rejectUnauthorized: false })
      : requestHttp(options);
    const fail = (reason: string) => {
      reject(new Error(`${nameOf(target)} ${reason}`));
      request.destroy();
    };
    const late = setTimeout(() => fail("does not answer in time"), TIMEOUT_MS);
    request.once("response", (response) => {
      clearTimeout(late);
      response.resume();
      if (response.statusCode === 200) resolve();
      else fail(`answers ${path} with ${response.statusCode}`);
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
