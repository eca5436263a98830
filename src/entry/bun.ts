/**
 * Serves on Bun.
 * @module
 */
import type { RequestEnvironment } from "../compose/platform.ts";
import type { Settings } from "../config/settings.ts";
import { type Bytes, utf8 } from "../core/bytes.ts";
import { IDLE_MS, type Listen } from "./listen.ts";
import { type Served, serveWith } from "./serve.ts";

/** The largest body that a route reads by default, in octets. Bun refuses larger ones. */
const MAX_BODY = 128 * 1024;
/**
 * Octets of a body up to which Bun (1.4) writes a response that was waited for with its head in one
 * system call: 1 KiB less than its buffer. Before a larger body it writes the head in some fifty.
 */
const ONE_WRITE = 15 * 1024;

const listenPlain: Listen = async ({ listen, worker, limits }, fetch) => {
  const server = Bun.serve({
    hostname: listen.host,
    port: listen.port,
    reusePort: worker !== null,
    idleTimeout: Math.ceil((limits.idleMs ?? IDLE_MS) / 1000),
    maxRequestBodySize: Math.max(
      MAX_BODY,
      limits.maxBodyConfiguration ?? 0,
      limits.maxBodyBackup ?? 0,
    ),
    fetch: (request, runtime) => fetch(request, environmentOf(request, runtime)),
  });
  return { port: server.port ?? listen.port, stop: (now) => server.stop(now) };
};

/** Starts serving. @throws {CaError} @throws {Error} if the address is in use */
export const serve = (settings: Settings): Promise<Served> => serveWith(listenPlain, settings);

/** The part of Bun.serve's server that is used. */
interface Runtime {
  timeout(request: Request, seconds: number): void;
  requestIP(request: Request): { readonly address: string } | null;
}

/** The address is read only on demand: it costs a hundredth of a leaf. */
function environmentOf(request: Request, runtime: Runtime): RequestEnvironment {
  let held = false;
  return {
    holdOpen: () => {
      held = true;
      runtime.timeout(request, 0);
    },
    bodyOf: (content) => (held && content.length > ONE_WRITE ? streamOf(content) : content),
    get remoteAddress() {
      return runtime.requestIP(request)?.address;
    },
  };
}

/**
 * A stream of one piece, which Bun writes together with the head, as the first chunk of the response:
 * thousands of blocking queries that end at once take a tenth of the CPU.
 */
function streamOf(content: Bytes | string): ReadableStream {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(typeof content === "string" ? utf8(content) : content);
      controller.close();
    },
  });
}
