#!/usr/bin/env node
// Serves the Worker on this machine, in workerd, with the settings of the environment as its
// bindings: `npm run dev:worker`.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const { MESHCA_LISTEN = "127.0.0.1:8500", ...environment } = process.env;
// Those that wrangler.toml names as secrets come from the environment, and are on no command line.
const secrets = ["MESHCA_STORE", "MESHCA_KEK", "MESHCA_INITIAL_MANAGEMENT_TOKEN"];
const port = MESHCA_LISTEN.slice(MESHCA_LISTEN.lastIndexOf(":") + 1);
const host = MESHCA_LISTEN.slice(0, MESHCA_LISTEN.lastIndexOf(":")).replace(/^\[|\]$/g, "");
const variables = Object.entries(environment)
  .filter(([name]) => name.startsWith("MESHCA_") && !secrets.includes(name))
  .flatMap(([name, value]) => ["--var", `${name}:${value}`]);
const child = spawn(
  `${root}node_modules/.bin/node`,
  [
    `${root}node_modules/wrangler/bin/wrangler.js`,
    "dev",
    "--ip",
    host,
    "--port",
    port,
    "--test-scheduled",
    ...variables,
    ...process.argv.slice(2),
  ],
  {
    cwd: root,
    stdio: "inherit",
    env: {
      WRANGLER_SEND_METRICS: "false",
      CLOUDFLARE_CF_FETCH_ENABLED: "false",
      ...environment,
      CLOUDFLARE_INCLUDE_PROCESS_ENV: "true",
    },
  },
);
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => child.kill(signal));
child.once("exit", (code) => {
  process.exitCode = code ?? 1;
});
