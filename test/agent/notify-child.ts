/**
 * Notifies systemd as an agent does that becomes ready, changes its status, and stops. The test
 * starts it on each runtime.
 * @module
 */
import process from "node:process";
import { notifierOf } from "../../src/agent/sd-notify.ts";
import { systemClock } from "../../src/entry/system.ts";
import { Logger } from "../../src/telemetry/logger.ts";

const log = new Logger({
  level: "info",
  clock: systemClock,
  write: (line) => process.stdout.write(line),
});
const isBun = "bun" in process.versions;
const ids = { pid: process.pid, ppid: process.ppid, isBun };
const notifier = notifierOf(process.env, ids, { clock: systemClock, log });
notifier?.report(false, "Not ready: roots:\nnot known yet");
notifier?.report(false, "Not ready: roots: not known yet");
notifier?.report(true, "Serving 1 identity");
notifier?.report(false, "Not ready: identity: web: no certificate");
notifier?.report(true, "Serving 1 identity");
await systemClock.sleep(Number(process.argv[2] ?? 0));
await notifier?.stop();
notifier?.report(true, "after the end");
