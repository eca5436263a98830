/**
 * Starts the watchers of watchers.ts and changes the roots that they watch.
 * @module
 */
import { join } from "node:path";
import { createReader } from "./output.ts";

export interface Watching {
  /**
   * Resolves once all have their answer: when each one's last byte came in, by port, in
   * milliseconds since 1970.
   */
  answered(): Promise<{
    readonly errors: number;
    readonly answeredAt: readonly (readonly number[])[];
  }>;
  stop(): Promise<void>;
}

/** A server with access control. @default without it, over plain HTTP */
export interface Access {
  readonly token: string;
  /** Whether it serves TLS; it is not verified. @default false */
  readonly tls?: boolean;
}

/** Sends a request to a server on this machine. */
function send(
  port: string,
  path: string,
  access: Access | null,
  init: RequestInit = {},
): Promise<Response> {
  const url = `${access?.tls === true ? "https" : "http"}://127.0.0.1:${port}${path}`;
  const headers = access === null ? {} : { "X-Consul-Token": access.token };
  return fetch(url, { ...init, headers, tls: { rejectUnauthorized: false } });
}

/** Milliseconds since 1970, with a fraction, as watchers.ts has them. */
export const now = (): number => performance.timeOrigin + performance.now();

/** The index of the roots. */
export async function indexOf(port: string): Promise<string> {
  const answer = await send(port, "/v1/connect/ca/roots", null);
  await answer.arrayBuffer();
  return answer.headers.get("x-consul-index") ?? "";
}

/** Starts watchers on servers in turn. @returns once all of them wait */
export async function startWatchers(
  ports: readonly string[],
  count: number,
  access: Access | null = null,
): Promise<Watching> {
  const indexes = await Promise.all(ports.map(indexOf));
  const child = Bun.spawn(
    [
      ...[process.execPath, join(import.meta.dir, "watchers.ts")],
      ...[ports.join(), String(count), indexes.join()],
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  const read = createReader(child.stdout);
  await read(/ready\n/);
  await untilWaiting(ports, count, access);
  return {
    answered: async () => JSON.parse((await read(/.*\n/))[0]),
    async stop() {
      child.kill();
      await child.exited;
    },
  };
}

/** Resolves once so many watchers wait on some servers together. */
export async function untilWaiting(
  ports: readonly string[],
  count: number,
  access: Access | null = null,
): Promise<void> {
  const waiting = async (port: string) =>
    Number(
      /^meshca_watchers (\d+)$/m.exec(await (await send(port, "/metrics", access)).text())?.[1],
    );
  for (;;) {
    const counts = await Promise.all(ports.map(waiting));
    if (counts.reduce((sum, next) => sum + next, 0) === count) return;
    await Bun.sleep(10);
  }
}

/**
 * When a change was sent and when it was answered. Some see it before the client that requested it
 * has the answer.
 */
export interface Changed {
  readonly sentAt: number;
  readonly changedAt: number;
}

export const rotate = (port: string, access: Access | null = null): Promise<Changed> =>
  change(port, "rotate", access);

let changes = 0;

/** A change that replaces no root: another life of leaves, in hours, than any of the last ones. */
export const configure = (port: string): Promise<Changed> =>
  change(
    port,
    "configuration",
    null,
    JSON.stringify({ Provider: "consul", Config: { LeafCertTTL: `${24 + (changes++ % 1000)}h` } }),
  );

async function change(
  port: string,
  path: string,
  access: Access | null,
  body: string | null = null,
): Promise<Changed> {
  const sentAt = now();
  const answer = await send(port, `/v1/connect/ca/${path}`, access, { method: "PUT", body });
  const text = await answer.text();
  if (!answer.ok) throw new TypeError(`A change was refused: ${text}`);
  return { sentAt, changedAt: now() };
}
