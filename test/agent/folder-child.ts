/**
 * A process that writes SVIDs into a credential folder until it is killed:
 *   folder-child.ts SVIDS FOLDER KILL_AT
 * SVIDS is a file with two or more of them in JSON. With KILL_AT 0 they alternate without end; else it
 * writes each one once, and kills itself before its change of the file system of that number.
 * @module
 */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { MutableSource } from "../../src/client/source.ts";
import type { TrustBundle, X509Svid } from "../../src/client/svid.ts";
import { fromBase64 } from "../../src/core/bytes.ts";

const [, , file = "", path = "", killAt = "0"] = process.argv;
let calls = 0;

/** Counts a call, and ends this process before the one that was asked for. */
function count(): void {
  calls += 1;
  if (calls === Number(killAt)) process.kill(process.pid, "SIGKILL");
}

/** Calls that change something: a kill before one that reads is a kill after the change before. */
const CHANGES = ["chmod", "link", "mkdir", "open", "rename", "rm", "symlink"] as const;
const OF_HANDLES = ["chmod", "sync", "writeFile"];

/** The same object, of which some functions count their calls; so do those of handles. */
function counting<T extends object>(object: T, names: readonly string[]): T {
  return new Proxy(object, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      return async (...args: unknown[]) => {
        if (names.includes(String(name))) count();
        const result: unknown = await Reflect.apply(value, target, args);
        return name === "open" && typeof result === "object" && result !== null
          ? counting(result, OF_HANDLES)
          : result;
      };
    },
  });
}

if (killAt !== "0") {
  const counted = counting(fs.promises, CHANGES);
  for (const name of CHANGES) Object.assign(fs.promises, { [name]: counted[name] });
  syncBuiltinESMExports();
}
const { CredentialFolder } = await import("../../src/agent/credential-folder.ts");

interface Stored {
  readonly spiffeId: string;
  readonly chain: readonly string[];
  readonly privateKey: string;
  readonly notAfter: string;
  readonly roots: readonly string[];
  readonly trustDomain: string;
}
const bytes = (text: string) => fromBase64(text) ?? new Uint8Array();
const stored = JSON.parse(fs.readFileSync(file, "utf8")) as Stored[];
const svid = new MutableSource<X509Svid>();
const bundle = new MutableSource<TrustBundle>();
let index = 0;
const next = () => {
  const now = stored[index % stored.length] as Stored;
  index += 1;
  bundle.set({
    ...{ trustDomain: now.trustDomain, activeRootId: "", index, json: "" },
    roots: now.roots.map(bytes),
  });
  svid.set({
    ...{ spiffeId: now.spiffeId, serialNumber: "", index, notBefore: new Date(0) },
    chain: now.chain.map(bytes),
    privateKey: bytes(now.privateKey),
    notAfter: new Date(now.notAfter),
  });
};
const ignore = () => undefined;
const folder = new CredentialFolder({
  ...{ path, workload: { service: "web", svid, problem: null }, bundle },
  log: { debug: ignore, info: ignore, warn: ignore, error: (...text) => console.error(...text) },
  metrics: { streams: ignore, refused: ignore, delivered: ignore },
  // Pauses that take no time.
  clock: { now: () => new Date(), sleep: () => new Promise((resolve) => setTimeout(resolve, 1)) },
});
next();
await folder.start();
console.log("started");
for (let i = 1; killAt === "0" || i < stored.length; i++) {
  next();
  await new Promise((resolve) => setTimeout(resolve, 10));
  await folder.settled();
}
await folder.close();
console.log(`calls ${calls}`);
process.exit(0);
