/**
 * Sockets and folders of the agent's configuration, with the identities that they name.
 * @module
 */
import { nearest } from "../core/nearest.ts";
import { type AgentKeys, MAX_SOCKET_PATH } from "./agent-schema.ts";
import type {
  FolderSettings,
  HookSettings,
  IdentitySettings,
  SocketSettings,
} from "./agent-types.ts";

/** Reports a fault of the key at a path, with a dot for each level; "" is the whole. */
export type Report = (at: string, reason: string) => void;

/** The default mode of a socket: only the agent's own user connects. */
const SOCKET_MODE = 0o600;

type Resolve = (path: string) => string;

/** Reads sockets and folders, which name identities by their services. */
export class DeliveryReader {
  readonly #identities: readonly IdentitySettings[];
  readonly #resolve: Resolve;
  readonly #report: Report;

  constructor(identities: readonly IdentitySettings[], resolve: Resolve, report: Report) {
    this.#identities = identities;
    this.#resolve = resolve;
    this.#report = report;
  }

  socket(socket: AgentKeys["sockets"][number], at: string): SocketSettings {
    const { path, listen, mode, group } = socket;
    if ((path === undefined) === (listen === undefined))
      this.#report(at, "must have either path or listen");
    if (listen !== undefined && (mode !== undefined || group !== undefined))
      this.#report(
        at,
        "has listen, and mode and group are of a path: every user of this machine can connect to an address",
      );
    const target = listen ?? { path: this.#resolve(path ?? "") };
    if ("path" in target) requireShort(target.path, `${at}.path`, this.#report);
    return {
      at: target,
      identities: this.#identitiesOf(socket.identities, `${at}.identities`),
      mode: mode ?? SOCKET_MODE,
      group: group ?? null,
    };
  }

  folder(folder: AgentKeys["folders"][number], at: string): FolderSettings {
    const { path, identity, mode, owner, group, shared: isShared, on_change: onChange } = folder;
    return {
      path: this.#resolve(path),
      identity: this.#identityOf(identity, `${at}.identity`),
      mode: mode ?? null,
      owner: owner ?? null,
      group: group ?? null,
      isShared,
      onChange: onChange === undefined ? null : this.#hook(onChange, `${at}.on_change`),
    };
  }

  #hook(
    {
      command,
      signal,
      pid_file: pidFile,
      timeout,
    }: NonNullable<AgentKeys["folders"][number]["on_change"]>,
    at: string,
  ): HookSettings | null {
    const timeoutMs = timeout ?? null;
    if ((command === undefined) === (signal === undefined)) {
      this.#report(at, "must have either command or signal");
      return null;
    }
    if ((signal === undefined) !== (pidFile === undefined))
      this.#report(
        at,
        "must have signal and pid_file together: the signal is sent to the process of the pid file",
      );
    if (command !== undefined) return { kind: "command", command, timeoutMs };
    return {
      kind: "signal",
      signal: signal ?? "HUP",
      pidFile: this.#resolve(pidFile ?? ""),
      timeoutMs,
    };
  }

  /** The identities that a socket names; all if it names none. */
  #identitiesOf(names: readonly string[] | undefined, at: string): readonly number[] {
    if (names === undefined) return this.#identities.map((_, i) => i);
    if (names.length === 0) this.#report(at, "must name at least one identity");
    const found = names.map((name, i) => this.#find(name, `${at}.${i}`));
    for (const [i, index] of found.entries())
      if (found.indexOf(index) !== i && index >= 0)
        this.#report(`${at}.${i}`, `names ${JSON.stringify(names[i])} a second time`);
    return found;
  }

  #identityOf(name: string | undefined, at: string): number {
    if (name !== undefined) return this.#find(name, at);
    if (this.#identities.length > 1)
      this.#report(at, `is required: there are several identities, ${this.#services().join(", ")}`);
    return 0;
  }

  /** The index of an identity; -1 if it is unknown. */
  #find(name: string, at: string): number {
    const services = this.#services();
    const index = this.#identities.findIndex(({ service }) => service === name);
    if (index < 0) {
      const near = nearest(name, services);
      const known =
        services.length === 0 ? "no identity has a service" : `known are ${services.join(", ")}`;
      const advice = near === null ? known : `did you mean ${near}?`;
      this.#report(at, `no identity has the service ${JSON.stringify(name)}; ${advice}`);
    }
    return index;
  }

  #services(): string[] {
    return this.#identities.flatMap(({ service }) => (service === null ? [] : [service]));
  }
}

/** A path that the system cuts off would be another socket. */
export function requireShort(path: string, at: string, report: Report): void {
  const octets = new TextEncoder().encode(path).length;
  if (octets > MAX_SOCKET_PATH)
    report(
      at,
      `the path of a Unix socket has at most ${MAX_SOCKET_PATH} octets, and ${JSON.stringify(path)} has ${octets}: choose a shorter one`,
    );
}
