/**
 * Tells systemd when the agent serves, stops and still works, by the protocol of sd_notify(3): a
 * datagram to the Unix socket that NOTIFY_SOCKET names.
 * @module
 */
import { spawn } from "node:child_process";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";

/** Of which NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID (sd_watchdog_enabled(3)) and PATH are read. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Sends one message. @throws {Error} if it was not sent */
type SendNotification = (message: string) => Promise<void>;

interface NotifierOptions {
  readonly send: SendNotification;
  /** How often systemd expects a sign of life, in milliseconds; null: never. */
  readonly watchdogMs: number | null;
  readonly clock: Pick<Clock, "sleep">;
  readonly log: Log;
}

/** The longest wait for `systemd-notify`, in milliseconds: it waits for systemd by itself. */
const CHILD_MS = 5000;

/** The notifications of one process, in order. A failure is logged once, and is no reason to stop. */
export class ServiceNotifier {
  readonly #options: NotifierOptions;
  readonly #closing = new AbortController();
  #queue: Promise<void> = Promise.resolve();
  #isReady = false;
  #status = "";
  #failed = false;

  constructor(options: NotifierOptions) {
    this.#options = options;
    if (options.watchdogMs !== null) void this.#watch(options.watchdogMs / 2);
  }

  /**
   * Reports the state after a change.
   * @param isReady whether everything is served; what was ready once stays so for systemd.
   * @param status one line for `systemctl status`.
   */
  report(isReady: boolean, status: string): void {
    if (this.#closing.signal.aborted) return;
    const line = status.replaceAll(/\s+/g, " ");
    const lines = [
      ...(isReady && !this.#isReady ? ["READY=1"] : []),
      ...(line === this.#status ? [] : [`STATUS=${line}`]),
    ];
    this.#isReady ||= isReady;
    this.#status = line;
    if (lines.length > 0) this.#send(lines.join("\n"));
  }

  /** Reports that the agent stops. Resolves when all messages were sent. */
  async stop(): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort();
      this.#send("STOPPING=1\nSTATUS=Stopping");
    }
    await this.#queue;
  }

  #send(message: string): void {
    const { send, log } = this.#options;
    this.#queue = this.#queue.then(async () => {
      try {
        await send(message);
        this.#failed = false;
      } catch (error) {
        if (!this.#failed)
          log.warn("Failed to notify systemd; the agent keeps serving", {
            reason: error instanceof Error ? error.message : "unknown",
          });
        this.#failed = true;
      }
    });
  }

  async #watch(everyMs: number): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      this.#send("WATCHDOG=1");
      await this.#options.clock.sleep(everyMs, signal);
    }
  }
}

/**
 * The notifier that the environment asks for; null without NOTIFY_SOCKET.
 * @param process the ids of this process and of its parent, which is the command that started it.
 */
export function notifierOf(
  environment: Environment,
  process: { readonly pid: number; readonly ppid: number; readonly isBun: boolean },
  { clock, log }: Pick<NotifierOptions, "clock" | "log">,
): ServiceNotifier | null {
  const { NOTIFY_SOCKET: socket, PATH } = environment;
  if (socket === undefined || socket === "") return null;
  if (!/^[/@]./.test(socket)) {
    log.warn("Not notifying systemd: NOTIFY_SOCKET is neither a path nor an abstract socket");
    return null;
  }
  const byChild: SendNotification = (message) => sendByChild(message, socket, PATH ?? "");
  const watchdogMs = watchdogOf(environment, process);
  const send = process.isBun ? firstThat(() => byDatagram(socket), byChild) : byChild;
  return new ServiceNotifier({ send, watchdogMs, clock, log });
}

/** The interval of the watchdog in milliseconds, if it is of this process or of its command. */
function watchdogOf(
  { WATCHDOG_USEC: interval, WATCHDOG_PID: of }: Environment,
  { pid, ppid }: { readonly pid: number; readonly ppid: number },
): number | null {
  const isOurs = of === undefined || of === "" || [pid, ppid].includes(Number(of));
  const ms = /^\d{1,15}$/.test(interval ?? "") ? Number(interval) / 1000 : 0;
  return isOurs && ms > 0 ? ms : null;
}

/** Uses the first way if it can be opened, else the second. */
function firstThat(
  open: () => Promise<SendNotification | null>,
  otherwise: SendNotification,
): SendNotification {
  let opened: Promise<SendNotification> | null = null;
  return async (message) => {
    opened ??= open().then((send) => send ?? otherwise);
    await (await opened)(message);
  };
}

/** Bun calls the C library; Node and Deno have no datagrams over Unix sockets. */
async function byDatagram(socket: string): Promise<SendNotification | null> {
  const { openDatagram } = await import("./bun-datagram.ts");
  return openDatagram(socket);
}

/**
 * Sends by `systemd-notify`, which takes the process that started it for the sender if it is
 * allowed to, and needs NotifyAccess=all otherwise (systemd-notify(1)).
 */
function sendByChild(message: string, socket: string, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("systemd-notify", message.split("\n"), {
      env: { NOTIFY_SOCKET: socket, PATH: path },
      stdio: "ignore",
      timeout: CHILD_MS,
      killSignal: "SIGKILL",
    });
    child.once("error", () => reject(new Error("systemd-notify cannot be run")));
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`systemd-notify ended with ${code ?? "a signal"}`)),
    );
  });
}
