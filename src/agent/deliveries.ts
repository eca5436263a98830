/**
 * What hands identities to workloads: sockets, folders and the listener, opened and closed together.
 * @module
 */

import { hostPort } from "../config/addresses.ts";
import type { AgentSettings, SocketSettings } from "../config/agent-types.ts";
import { ConfigError } from "../core/errors.ts";
import { ConsulListener, type ConsulListenerOptions } from "./consul-listener.ts";
import { CredentialFolder } from "./credential-folder.ts";
import { idOf } from "./files/ownership.ts";
import { hookOf } from "./hook-of.ts";
import type { Identity } from "./identity.ts";
import type { AgentParts, Delivering } from "./status.ts";
import { WorkloadSocket } from "./workload-socket.ts";

interface DeliveriesOptions extends ConsulListenerOptions {
  readonly identities: readonly Identity[];
}

/** A socket or the listener: it serves from its opening on. */
interface Opening {
  readonly kind: "sockets" | "listeners";
  readonly name: string;
  readonly address: () => string;
  readonly listen: () => Promise<void>;
  readonly close: () => Promise<void>;
}

export class Deliveries {
  readonly #openings: readonly Opening[];
  readonly #folders: readonly { readonly name: string; readonly folder: CredentialFolder }[];
  readonly #open = new Set<Opening>();

  /** @throws {ConfigError} if a part cannot be used as it is configured */
  constructor(options: DeliveriesOptions) {
    const { settings } = options;
    this.#openings = [
      ...settings.sockets.map((socket) => socketOf(socket, options)),
      ...(settings.listen === null ? [] : [listenerOf(settings.listen, options)]),
    ];
    this.#folders = foldersOf(options);
  }

  /** The state of the parts. */
  get parts(): Pick<AgentParts, "sockets" | "listeners" | "folders"> {
    return {
      sockets: this.#stateOf("sockets"),
      listeners: this.#stateOf("listeners"),
      folders: this.#folders.map(({ name, folder: { problem, hookProblem } }) => ({
        ...{ name, problem, hookProblem },
      })),
    };
  }

  /** The addresses of what is open, as clients know them. */
  get addresses(): readonly string[] {
    return this.#openings
      .filter((opening) => this.#open.has(opening))
      .map((opening) => opening.address());
  }

  /** @throws {ConfigError} @throws {Error} with a `code` of the system */
  async open(): Promise<void> {
    for (const opening of this.#openings) {
      await opening.listen();
      this.#open.add(opening);
    }
    for (const { folder } of this.#folders) await folder.start();
  }

  #stateOf(kind: Opening["kind"]): Delivering[] {
    return this.#openings
      .filter((opening) => opening.kind === kind)
      .map((opening) => {
        const isOpen = this.#open.has(opening);
        // The system may have chosen the port.
        const name = isOpen ? opening.address() : opening.name;
        return { name, problem: isOpen ? null : `${name} is not listening` };
      });
  }

  /** Ends streams and queries, then hooks. Files stay. */
  async close(): Promise<void> {
    const open = [...this.#open];
    this.#open.clear();
    await Promise.all(open.map((opening) => opening.close()));
    await Promise.all(this.#folders.map(({ folder }) => folder.close()));
  }
}

/** The folders of the configuration. @throws {ConfigError} if one cannot be used as it is */
export function foldersOf({
  settings,
  connection,
  identities,
  metrics,
  clock,
  log,
}: Pick<
  DeliveriesOptions,
  "settings" | "connection" | "identities" | "metrics" | "clock" | "log"
>): { readonly name: string; readonly folder: CredentialFolder }[] {
  return settings.folders.flatMap(({ identity, onChange, ...where }) => {
    const workload = identities[identity];
    if (workload === undefined) return [];
    const hook = onChange === null ? null : hookOf(onChange, clock);
    const folder = new CredentialFolder({
      ...where,
      ...{ workload, bundle: connection.roots, onChange: hook, metrics, clock, log },
    });
    return [{ name: where.path, folder }];
  });
}

function socketOf(
  { at, mode, group, identities: indices }: SocketSettings,
  { connection, identities, metrics, clock, log }: DeliveriesOptions,
): Opening {
  const workloads = indices.flatMap((index) => identities[index] ?? []);
  const path = "path" in at ? at.path : `tcp://${hostPort(at.host, at.port)}`;
  const socket = new WorkloadSocket({
    ...{ path, mode, group: groupId(path, group), metrics, clock, log },
    set: { workloads, bundle: connection.roots },
  });
  return {
    kind: "sockets",
    name: path,
    address: () => socket.uri,
    listen: () => socket.listen(),
    close: () => socket.close(),
  };
}

/** @throws {ConfigError} */
function groupId(socket: string, group: string | null): number | null {
  const id = group === null ? null : idOf("/etc/group", group);
  if (group !== null && id === null)
    throw new ConfigError(
      `Socket ${JSON.stringify(socket)}: group ${JSON.stringify(group)} is not in /etc/group; the number of a group is accepted too`,
    );
  return id;
}

function listenerOf(
  listen: NonNullable<AgentSettings["listen"]>,
  options: DeliveriesOptions,
): Opening {
  const listener = new ConsulListener(listen, options);
  return {
    kind: "listeners",
    name: "path" in listen ? `unix:${listen.path}` : hostPort(listen.host, listen.port),
    address: () => listener.address,
    listen: () => listener.listen(),
    close: () => listener.close(),
  };
}
