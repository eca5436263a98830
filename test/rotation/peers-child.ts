/**
 * TLS peers in a process of their own. One listening server stands for every server peer: the
 * server name that a client asks for says which leaf to present and which roots to trust. Commands
 * come over IPC, in order.
 * @module
 */
import type { AddressInfo } from "node:net";
import {
  connect,
  createSecureContext,
  createServer,
  type SecureContext,
  type TLSSocket,
} from "node:tls";

/** What one side of a handshake holds, by name. */
export interface Side {
  readonly leaf: string;
  readonly roots: string;
}

export interface LeafCommand {
  readonly kind: "leaf";
  readonly name: string;
  /** The leaf, then all that is presented with it. */
  readonly cert: string;
  readonly key: string;
  readonly uri: string;
  /** Colon hex. */
  readonly serial: string;
}

export interface RootsCommand {
  readonly kind: "roots";
  readonly name: string;
  readonly ca: readonly string[];
}

export interface AttemptCommand {
  readonly kind: "attempt";
  readonly id: number;
  readonly server: Side;
  readonly client: Side;
}

export type Command = LeafCommand | RootsCommand | AttemptCommand;

export interface Outcome {
  readonly id: number;
  /** Why there was no mutual handshake, or null. */
  readonly fault: string | null;
}

/**
 * Longer than any handshake takes on a busy machine; one that hangs is a fault, not a wait without
 * end.
 */
const PATIENCE_MS = 30_000;

const leaves = new Map<string, LeafCommand>();
const roots = new Map<string, RootsCommand>();
const contexts = new Map<string, SecureContext>();
/** What servers refused, by the client's port. */
const refusals = new Map<number, string>();

function found<T>(map: ReadonlyMap<string, T>, name: string): T {
  const value = map.get(name);
  if (value === undefined) throw new Error(`${name} was never announced`);
  return value;
}

function contextOf({ leaf, roots: set }: Side): SecureContext {
  const name = `${leaf}.${set}`;
  let context = contexts.get(name);
  if (context === undefined) {
    const { cert, key } = found(leaves, leaf);
    context = createSecureContext({ cert, key, ca: [...found(roots, set).ca] });
    contexts.set(name, context);
  }
  return context;
}

/**
 * What a socket shows of this handshake: the peer's identity, and whether it was a full one.
 */
function describe(socket: TLSSocket): string {
  const { serialNumber = "", subjectaltname = "" } = socket.getPeerCertificate();
  return JSON.stringify([
    socket.authorized,
    socket.isSessionReused(),
    BigInt(`0x${serialNumber || "0"}`).toString(16),
    subjectaltname,
  ]);
}

/** What the other side must say about a handshake with this leaf. */
function expectedOf({ serial, uri }: LeafCommand): string {
  return JSON.stringify([
    true,
    false,
    BigInt(`0x${serial.replaceAll(":", "")}`).toString(16),
    `URI:${uri}`,
  ]);
}

const server = createServer(
  {
    requestCert: true,
    rejectUnauthorized: true,
    SNICallback: (name, done) => {
      const [leaf = "", set = ""] = name.split(".");
      try {
        done(null, contextOf({ leaf, roots: set }));
      } catch (error) {
        done(error instanceof Error ? error : new Error("unknown"));
      }
    },
  },
  (socket) => {
    socket.on("error", () => {});
    socket.end(describe(socket));
  },
);
server.on("tlsClientError", (error, socket) => {
  if (socket.remotePort !== undefined) refusals.set(socket.remotePort, reasonOf(error));
});

function reasonOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : error.message;
}

/** One new connection with a full handshake. @returns why it failed, or null. */
function attempt(
  { server: far, client: near }: AttemptCommand,
  port: number,
): Promise<string | null> {
  return new Promise((resolve) => {
    let [heard, seen, fault] = ["", "", ""];
    const socket = connect({
      host: "127.0.0.1",
      port,
      servername: `${far.leaf}.${far.roots}.peer`,
      secureContext: contextOf(near),
      rejectUnauthorized: true,
      // A SPIFFE leaf has no DNS name: `describe` returns its identity.
      checkServerIdentity: () => undefined,
    });
    let from = 0;
    socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error("timeout")));
    socket.on("secureConnect", () => {
      from = socket.localPort ?? 0;
      seen = describe(socket);
    });
    socket.on("data", (data: Buffer) => {
      heard += data.toString("utf8");
    });
    socket.on("error", (error) => {
      fault = `client: ${reasonOf(error)}`;
    });
    socket.on("close", () => {
      const refusal = refusals.get(from);
      refusals.delete(from);
      if (
        seen === expectedOf(found(leaves, far.leaf)) &&
        heard === expectedOf(found(leaves, near.leaf)) &&
        fault === ""
      )
        resolve(null);
      else
        resolve(
          [
            refusal === undefined ? "" : `server: ${refusal}`,
            fault,
            `saw ${seen}, was seen as ${heard}`,
          ]
            .filter(Boolean)
            .join("; "),
        );
    });
  });
}

await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address() as AddressInfo;

async function obey(command: Command): Promise<void> {
  if (command.kind === "leaf") leaves.set(command.name, command);
  else if (command.kind === "roots") roots.set(command.name, command);
  else {
    const outcome: Outcome = { id: command.id, fault: await attempt(command, port) };
    process.send?.(outcome);
  }
}

process.on("message", (command: Command) => void obey(command));
process.send?.({ id: -1, fault: null } satisfies Outcome);
