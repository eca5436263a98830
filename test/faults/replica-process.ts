/**
 * A replica as a process that its test pauses, kills, stops and resumes.
 * @module
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { until } from "../redis/server.ts";
import type { Recorder } from "./history.ts";
import type { Arm, Command, ReplicaOptions, Report } from "./messages.ts";

export interface ReplicaProcess {
  /** Its own for each start. */
  readonly name: string;
  readonly url: string;
  readonly options: ReplicaOptions;
  /** The state in use, as last reported by the process. */
  readonly adopted: {
    readonly index: number;
    readonly commit: string;
    readonly active: string;
  } | null;
  /** Whether it runs: neither ended nor stopped. */
  readonly awake: boolean;
  /** What it has logged. */
  readonly log: readonly string[];
  /** Has it wait at a call. Resolves with the call once it waits there. */
  arm(arm: Partial<Arm>): Promise<string>;
  disarm(): void;
  /** Lets it go on from the call at which it waits. */
  go(): void;
  /** SIGKILL. Resolves when it has ended. */
  kill(): Promise<void>;
  /** SIGSTOP, as a machine that is suspended. */
  pause(): void;
  /** SIGCONT. */
  wake(): void;
}

let started = 0;

/**
 * Starts a replica and waits until it serves.
 * @param onHeld called when it waits at the call that `options.arm` names, before it serves.
 * @throws when it ends instead
 */
export async function startReplica(
  options: ReplicaOptions,
  recorder: Recorder,
  onHeld: (replica: ReplicaProcess) => void = () => undefined,
): Promise<ReplicaProcess> {
  const name = `replica ${++started}`;
  const child = fork(
    fileURLToPath(new URL("./replica.ts", import.meta.url)),
    [JSON.stringify(options)],
    { execPath: process.execPath },
  );
  const end = () => child.kill("SIGKILL");
  process.once("exit", end);
  child.once("exit", () => process.removeListener("exit", end));
  let adopted: ReplicaProcess["adopted"] = null;
  let awake = true;
  let url = "";
  let held = (_port: string): void => onHeld(replica);
  const log: string[] = [];
  const serving = Promise.withResolvers<string>();
  child.once("exit", () => {
    awake = false;
    serving.reject(new Error(`${name} ended: ${log.at(-1) ?? "without a word"}`));
  });
  child.on("message", (report: Report) => {
    if (report.kind === "listening") serving.resolve(report.url);
    else if (report.kind === "failed")
      serving.reject(new Error(`${name} cannot start: ${report.reason}`));
    else if (report.kind === "held") held(report.port);
    else if (report.kind === "log")
      log.push(`${report.level} ${report.message} ${JSON.stringify(report.fields ?? {})}`);
    else {
      adopted = report;
      recorder.adoptions.push({ replica: name, index: report.index, commitId: report.commit });
    }
  });
  // A killed process takes no messages.
  const send = (command: Command) => void (child.connected && child.send(command));
  const replica: ReplicaProcess = {
    name,
    get url() {
      return url;
    },
    options,
    log,
    get adopted() {
      return adopted;
    },
    get awake() {
      return awake;
    },
    arm(arm) {
      const waits = new Promise<string>((resolve) => {
        held = resolve;
      });
      send({ kind: "arm", scope: "change", moment: "before", port: null, call: 1, ...arm });
      return waits;
    },
    disarm: () => send({ kind: "disarm" }),
    go: () => send({ kind: "go" }),
    async kill() {
      awake = false;
      await ended(child);
    },
    pause() {
      awake = false;
      child.kill("SIGSTOP");
    },
    wake() {
      awake = true;
      child.kill("SIGCONT");
    },
  };
  url = await serving.promise;
  return replica;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

/** Resolves once all of some replicas serve the same state. */
export async function agreed(
  replicas: readonly ReplicaProcess[],
  commit: () => Promise<string | null>,
): Promise<void> {
  await until(async () => {
    const wanted = await commit();
    return replicas.every(({ adopted }) => adopted?.commit === wanted);
  });
}
