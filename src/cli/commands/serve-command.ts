/**
 * The command `meshca serve`.
 * @module
 */
import type { Command } from "../command.ts";
import { usage } from "../output.ts";

/** More than any machine has cores. */
const MAX_WORKERS = 64;

export const serve: Command = {
  name: "serve",
  summary: "run the CA",
  details:
    "Settings come from MESHCA_* variables and the file that MESHCA_CONFIG names. A flag wins over its variable.",
  flags: [
    {
      ...{ name: "listen", value: "ADDRESS", variables: ["MESHCA_LISTEN"] },
      help: "HOST:PORT to listen on (127.0.0.1:8500)",
    },
    {
      ...{ name: "data-dir", value: "FOLDER", variables: ["MESHCA_DATA_DIR"], file: true },
      help: "folder for the store and the keys (.meshca)",
    },
    {
      ...{ name: "config", value: "FILE", variables: ["MESHCA_CONFIG"], file: true },
      help: "configuration file in the form of Consul's agent, JSON or HCL",
    },
    {
      ...{ name: "dev", value: null },
      help: "keep the state in memory only, and access control off unless it is set",
    },
    {
      ...{ name: "workers", value: "N" },
      help: `N processes behind one port, 1 to ${MAX_WORKERS}`,
    },
    // For processes that `workersCommand` starts.
    { ...{ name: "worker", value: "N", hidden: true }, help: "number of this worker" },
  ],
  example: "meshca serve --listen 127.0.0.1:8500 --data-dir /var/lib/meshca",
  serves: true,
  async run({ flags, environment }) {
    const { serveCommand } = await import("./serve.ts");
    const variables = variablesOf((name) => flags.text(name), flags.on("dev"), environment);
    // Workers, and a reload after SIGHUP, read the environment of the process.
    Object.assign(process.env, variables);
    const [worker, workers] = [flags.text("worker"), flags.text("workers")];
    if (worker !== null) return serveCommand(numberOf("worker", worker, 0));
    if (workers === null) return serveCommand();
    const { workersCommand } = await import("./workers.ts");
    return workersCommand(numberOf("workers", workers, 1));
  },
};

/** The settings that the flags give. @throws {Failure} if --dev contradicts the store */
function variablesOf(
  text: (flag: string) => string | null,
  dev: boolean,
  { MESHCA_STORE = "", MESHCA_STORE_FILE = "", MESHCA_ACL = "" }: NodeJS.ProcessEnv,
): Record<string, string> {
  const given = Object.entries({
    MESHCA_LISTEN: text("listen"),
    MESHCA_DATA_DIR: text("data-dir"),
    MESHCA_CONFIG: text("config"),
  }).flatMap(([name, value]) => (value === null ? [] : [[name, value]]));
  if (dev && (MESHCA_STORE !== "" || MESHCA_STORE_FILE !== "") && MESHCA_STORE !== "memory:")
    throw usage("--dev keeps the state in memory only: unset MESHCA_STORE, or leave out --dev");
  return {
    ...(Object.fromEntries(given) as Record<string, string>),
    ...(dev
      ? { MESHCA_STORE: "memory:", ...(MESHCA_ACL === "" ? { MESHCA_ACL: "off" } : {}) }
      : {}),
  };
}

/** @throws {Failure} */
function numberOf(flag: string, text: string, least: number): number {
  const number = /^\d{1,2}$/.test(text) ? Number(text) : -1;
  if (number < least || number > MAX_WORKERS)
    throw usage(`--${flag} must be a whole number from ${least} to ${MAX_WORKERS}`);
  return number;
}
