/**
 * A Docker engine for the tests: the one that answers, or one that is started from the machine's
 * dockerd with a socket and a data folder of its own, and stopped with the tests.
 * @module
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** How long dockerd may take to answer, in milliseconds. */
const START_MS = 120_000;

export interface Engine {
  /** The environment for docker and docker-compose. */
  readonly environment: NodeJS.ProcessEnv;
  /** Whether it is ours, with nothing but the images of the tests. */
  readonly own: boolean;
  stop(): Promise<void>;
}

/** Facilities of the kernel that an engine needs, each with a program and what it must be able to do. */
const FACILITIES: readonly (readonly [name: string, program: string, command: string])[] = [
  ["namespaces", "unshare", "unshare --mount --pid --net --uts --ipc --fork sh -c :"],
  ["cgroups", "ls", "ls -d /sys/fs/cgroup/cgroup.controllers || ls -d /sys/fs/cgroup/*/"],
  ["overlay file systems (CONFIG_OVERLAY_FS)", "grep", "grep -qw overlay /proc/filesystems"],
  [
    "network bridges (CONFIG_BRIDGE)",
    "ip",
    "ip link add meshca-probe type bridge && ip link delete meshca-probe",
  ],
  [
    "virtual Ethernet pairs (CONFIG_VETH)",
    "ip",
    "ip link add meshca-probe type veth peer name meshca-other && ip link delete meshca-probe",
  ],
  ["address translation (CONFIG_NF_NAT)", "iptables", "iptables -t nat -L -n"],
];

const succeeds = (command: string): boolean =>
  spawnSync("sh", ["-c", command], { stdio: "ignore" }).status === 0;

/** The facilities that the kernel lacks or does not allow here, by name. */
function missingFacilities(): string[] {
  return FACILITIES.filter(
    ([, program, command]) => succeeds(`command -v ${program}`) && !succeeds(command),
  ).map(([name]) => name);
}

function answers(environment: NodeJS.ProcessEnv): boolean {
  try {
    execFileSync("docker", ["version", "--format", "{{.Server.Version}}"], {
      env: environment,
      stdio: "ignore",
    });
    return true;
  } catch {
    return false;
  }
}

/** Why there is no engine. */
export class NoEngine extends Error {
  /** Facilities that the kernel lacks, by name. */
  readonly missing: readonly string[];

  constructor(reason: string, missing: readonly string[]) {
    const facilities =
      missing.length > 0 ? `. The kernel lacks or does not allow: ${missing.join("; ")}` : "";
    super(`Cannot start a Docker engine: ${reason}${facilities}`);
    this.missing = missing;
  }
}

/**
 * The engine that DOCKER_HOST or the default socket names, or one that is started.
 * @throws {NoEngine}
 */
export async function startEngine(): Promise<Engine> {
  // The builder of the engine itself: BuildKit is a plug-in that may not be installed.
  const given = { ...process.env, DOCKER_BUILDKIT: "0" };
  if (answers(given)) return { environment: given, own: false, stop: async () => undefined };
  const reasons: string[] = [];
  // The second one if the data folder is on a file system that overlays cannot be on.
  for (const driver of ["overlay2", "vfs"]) {
    const started = await startDaemon(driver, given);
    if (typeof started !== "string") return started;
    reasons.push(`with ${driver} ${started}`);
  }
  throw new NoEngine(reasons.join("; "), missingFacilities());
}

/** Starts dockerd. @returns why it cannot be started, as a text, if so */
async function startDaemon(driver: string, given: NodeJS.ProcessEnv): Promise<Engine | string> {
  const cache = process.env.XDG_CACHE_HOME ?? "";
  const folder = join(cache === "" ? join(homedir(), ".cache") : cache, "meshca", "engine");
  const run = `/run/meshca-engine-${process.pid}`;
  mkdirSync(folder, { recursive: true });
  mkdirSync(run, { recursive: true });
  const log = join(folder, "dockerd.log");
  const environment = { ...given, DOCKER_HOST: `unix://${run}/docker.sock` };
  const output = openSync(log, "w");
  const daemon = spawn(
    "dockerd",
    [
      ...["--host", environment.DOCKER_HOST, "--pidfile", `${run}/docker.pid`],
      ...["--data-root", join(folder, driver), "--exec-root", `${run}/exec`],
      ...["--storage-driver", driver, "--bridge", "none"],
      ...["--default-address-pool", "base=172.31.0.0/16,size=24"],
    ],
    { stdio: ["ignore", output, output] },
  );
  closeSync(output);
  const ended = new Promise<string>((resolve) => {
    daemon.once("error", ({ message }) => resolve(message));
    daemon.once("exit", (code, signal) => resolve(`dockerd ended with ${code ?? signal}`));
  });
  const end = () => daemon.kill("SIGTERM");
  process.once("exit", end);
  const stop = async () => {
    process.removeListener("exit", end);
    end();
    await ended;
    unmountBelow(run);
    rmSync(run, { recursive: true, force: true });
  };
  const failure = await Promise.race([ended, untilAnswering(daemon, environment)]);
  if (failure === null) return { environment, own: true, stop };
  await stop();
  const lines = readFileSync(log, "utf8").trimEnd().split("\n").slice(-5).join("\n");
  return `${failure}: ${lines}`;
}

/** The network namespaces that dockerd leaves mounted. */
function unmountBelow(folder: string): void {
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((path) => path.startsWith(`${folder}/`));
  for (const path of mounts.toReversed()) spawnSync("umount", [path]);
}

async function untilAnswering(
  daemon: ChildProcess,
  environment: NodeJS.ProcessEnv,
): Promise<string | null> {
  for (const end = Date.now() + START_MS; Date.now() < end && daemon.exitCode === null; ) {
    if (answers(environment)) return null;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return `it does not answer within ${START_MS / 1000} s`;
}
