/**
 * Linux's figures of a process: proc(5).
 * @module
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/**
 * USER_HZ, in which the kernel counts CPU time for user space: 100 on every architecture that Bun
 * runs on.
 */
const TICKS_PER_SECOND = 100;
/** Of a socket in /proc/net/tcp that is connected: include/net/tcp_states.h. */
const ESTABLISHED = "01";

/** Seconds of CPU that all its threads had so far, user and system. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name in parentheses may hold anything; utime and stime are the 12th and 13th fields behind
  // it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Resident memory in MB: now, and at its highest so far. */
export function memory(pid: number): { now: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const megabytes = (field: string) =>
    Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024;
  return { now: megabytes("VmRSS"), peak: megabytes("VmHWM") };
}

/** The processes that it started and that still run. */
export function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    (readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").match(/\d+/g) ?? []).map(Number),
  );
}

/** How many connections it has taken on a port of its own. */
export function connectionsOf(pid: number, port: number): number {
  const taken = new Set<string>();
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1)) {
    const [, local = "", , state, , , , , , inode] = line.trim().split(/\s+/);
    if (state === ESTABLISHED && Number.parseInt(local.split(":")[1] ?? "", 16) === port)
      taken.add(`socket:[${inode}]`);
  }
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((file) => {
    try {
      return taken.has(readlinkSync(`${folder}/${file}`));
    } catch {
      // Closed since.
      return false;
    }
  }).length;
}
