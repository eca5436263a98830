/**
 * Servers of the system that take their certificates from files: each with a configuration of its
 * own, in the foreground, on an address of loopback that nothing else uses.
 * @module
 */
import { execFile, execFileSync, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { chownSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { postgresFolder } from "./clients.ts";
import { fail } from "./failure.ts";

/** Where a server finds its certificate and the roots of its clients. */
export interface Credentials {
  /** The leaf with its chain. */
  readonly chain: string;
  readonly key: string;
  /** Key and chain in one file. */
  readonly combined: string;
  readonly roots: string;
}

export interface RunningProgram {
  /** Host and port. */
  readonly address: string;
  /** What it printed. */
  output(): string;
  stop(): Promise<void>;
}

/**
 * A host and port that are free now. The host is one of loopback's own, so that the ports of
 * outgoing connections do not take it until the server listens.
 */
export async function freeAddress(): Promise<{ readonly host: string; readonly port: number }> {
  const host = `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`;
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return { host, port: typeof address === "object" && address !== null ? address.port : 0 };
}

/** Of a program to be ready, and to end. Far above what one takes, since the machine may be busy. */
const PATIENCE_MS = 60_000;

/** What shows that a program is ready: it listens, or it has written files. */
type Sign =
  | {
      readonly host: string;
      readonly port: number;
      /** A command that succeeds once it is ready, if it listens before. */
      readonly check?: readonly [string, ...string[]];
    }
  | readonly string[];

async function isSigned(sign: Sign): Promise<boolean> {
  if (!(await isThere(sign))) return false;
  if (!("host" in sign) || sign.check === undefined) return true;
  const [command, ...args] = sign.check;
  return promisify(execFile)(command, args).then(
    () => true,
    () => false,
  );
}

const isThere = (sign: Sign): Promise<boolean> =>
  new Promise((resolve) => {
    if (!("host" in sign)) {
      resolve(sign.every((path) => existsSync(path)));
      return;
    }
    const socket = connect(sign.port, sign.host);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });

/** Starts a program and waits until it is ready. @throws {Error} if it ends, or never is */
export async function startProgram(
  [program, ...args]: readonly [string, ...string[]],
  sign: Sign,
): Promise<RunningProgram> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      text = `${text}${chunk}`.slice(-10_000);
    });
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => {
      process.removeListener("exit", kill);
      resolve();
    });
  });
  const until = Date.now() + PATIENCE_MS;
  while (!(await isSigned(sign))) {
    if (child.exitCode !== null || Date.now() > until) {
      kill();
      fail(`${program} is not ready: ${text}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    address: "host" in sign ? `${sign.host}:${sign.port}` : "",
    output: () => text,
    async stop() {
      // PostgreSQL waits for its clients after a TERM; no other one here differs.
      child.kill("SIGINT");
      const timer = setTimeout(kill, PATIENCE_MS);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** nginx. A HUP to the process of `nginx.pid` reloads it. @param folder an empty one, to keep */
export async function startNginx(
  folder: string,
  { chain, key, roots }: Pick<Credentials, "chain" | "key" | "roots">,
): Promise<RunningProgram> {
  const at = await freeAddress();
  const file = join(folder, "nginx.conf");
  // A chain has up to seven certificates (docs/rotation.md), and the default depth is 1.
  writeFileSync(
    file,
    `daemon off;
pid ${folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server {
    listen ${at.host}:${at.port} ssl;
    ssl_certificate ${chain};
    ssl_certificate_key ${key};
    ssl_client_certificate ${roots};
    ssl_verify_client on;
    ssl_verify_depth 8;
    location / { return 200 "ok\\n"; }
  }
}
`,
  );
  return startProgram(["nginx", "-e", "stderr", "-p", folder, "-c", file], at);
}

/**
 * A script that reloads HAProxy and waits for the new worker: HAProxy loses a signal that arrives while
 * it reloads. Before HAProxy runs it does nothing. Its argument is the pid file of the master process.
 */
export const HAPROXY_RELOAD = `master=$(cat "$1" 2>/dev/null) || exit 0
worker=$(pgrep -n -P "$master")
kill -USR2 "$master"
while [ "$(pgrep -n -P "$master")" = "$worker" ]; do sleep 0.1; done
`;

/** HAProxy with a master process, whose number is in `haproxy.pid`. */
export async function startHaproxy(
  folder: string,
  { combined, roots }: Pick<Credentials, "combined" | "roots">,
): Promise<RunningProgram> {
  const at = await freeAddress();
  const file = join(folder, "haproxy.cfg");
  writeFileSync(
    file,
    `global
  log stderr format raw local0 warning
defaults
  mode http
  timeout client 20s
  timeout server 20s
  timeout connect 20s
  log global
frontend mesh
  bind ${at.host}:${at.port} ssl crt ${combined} ca-file ${roots} verify required
  http-request return status 200 content-type text/plain string ok
`,
  );
  return startProgram(["haproxy", "-W", "-f", file, "-p", join(folder, "haproxy.pid")], at);
}

/** The command that has Caddy read its configuration and the files again. */
export const caddyReload = (folder: string): string[] => [
  ...["caddy", "reload", "--force", "--adapter", "caddyfile"],
  ...["--config", join(folder, "Caddyfile"), "--address", `unix/${join(folder, "admin.sock")}`],
];

/** Caddy. `caddyReload` reloads it. */
export async function startCaddy(
  folder: string,
  { chain, key, roots }: Pick<Credentials, "chain" | "key" | "roots">,
  name: string,
): Promise<RunningProgram> {
  const at = await freeAddress();
  const file = join(folder, "Caddyfile");
  writeFileSync(
    file,
    `{
  admin unix/${join(folder, "admin.sock")}
  auto_https off
  storage file_system ${join(folder, "storage")}
  log {
    level WARN
  }
}
https://${name}:${at.port} {
  bind ${at.host}
  tls ${chain} ${key} {
    client_auth {
      mode require_and_verify
      trusted_ca_cert_file ${roots}
    }
  }
  respond ok
}
`,
  );
  return startProgram(
    ["/usr/bin/env", `HOME=${folder}`, "caddy", "run", "--adapter", "caddyfile", "--config", file],
    at,
  );
}

/** The command that has Redis read the files again, although their paths stay. */
export const redisReload = (
  folder: string,
  { chain, key, roots }: Pick<Credentials, "chain" | "key" | "roots">,
): string[] => [
  ...["redis-cli", "-e", "-s", join(folder, "redis.sock"), "config", "set"],
  ...["tls-cert-file", chain, "tls-key-file", key, "tls-ca-cert-file", roots],
];

/** Redis. `redisReload` has it read the files again. */
export async function startRedisWithTls(
  folder: string,
  { chain, key, roots }: Pick<Credentials, "chain" | "key" | "roots">,
): Promise<RunningProgram> {
  const at = await freeAddress();
  const file = join(folder, "redis.conf");
  writeFileSync(
    file,
    `port 0
tls-port ${at.port}
bind ${at.host}
unixsocket ${join(folder, "redis.sock")}
unixsocketperm 700
dir ${folder}
save ""
tls-auth-clients yes
tls-cert-file ${chain}
tls-key-file ${key}
tls-ca-cert-file ${roots}
`,
  );
  return startProgram(["redis-server", file], at);
}

const POSTGRES = "postgres";

/** A server of PostgreSQL does not run as root. */
const isRoot = process.getuid?.() === 0;
const asPostgres = (...command: readonly [string, ...string[]]): [string, ...string[]] =>
  isRoot
    ? ["setpriv", `--reuid=${POSTGRES}`, `--regid=${POSTGRES}`, "--init-groups", ...command]
    : [...command];

/** The user that PostgreSQL runs as, for the owner of its key; null: the same one. */
export const postgresUser: string | null = isRoot ? POSTGRES : null;

const postgresProgram = (name: string): string => {
  const folder = postgresFolder() ?? fail("PostgreSQL is not installed");
  return join(folder, name);
};

/** The command that has PostgreSQL read the files again. */
export const postgresReload = (folder: string): string[] =>
  asPostgres(postgresProgram("pg_ctl"), "reload", "-D", join(folder, "data"));

/** PostgreSQL with a user `mesh` who needs a certificate. `postgresReload` reloads it. */
export async function startPostgres(
  folder: string,
  { chain, key, roots }: Pick<Credentials, "chain" | "key" | "roots">,
): Promise<RunningProgram> {
  const at = await freeAddress();
  const data = join(folder, "data");
  mkdirSync(data, { recursive: true, mode: 0o700 });
  if (isRoot) {
    const id = (flag: string) =>
      Number(execFileSync("id", [flag, POSTGRES], { encoding: "utf8" }).trim());
    chownSync(data, id("-u"), id("-g"));
  }
  const [initdb, ...args] = asPostgres(
    postgresProgram("initdb"),
    ...["--no-sync", "--auth=reject", "--username=mesh", "-D", data],
  );
  await promisify(execFile)(initdb, args);
  writeFileSync(
    join(data, "pg_hba.conf"),
    "hostssl all mesh 127.0.0.0/8 trust clientcert=verify-ca\n",
  );
  writeFileSync(
    join(data, "postgresql.conf"),
    `listen_addresses = '${at.host}'
port = ${at.port}
unix_socket_directories = ''
fsync = off
ssl = on
ssl_cert_file = '${chain}'
ssl_key_file = '${key}'
ssl_ca_file = '${roots}'
`,
  );
  // It listens before it has started, and answers with an error until then.
  const check = [postgresProgram("pg_isready"), "-h", at.host, "-p", String(at.port)] as const;
  return startProgram(asPostgres(postgresProgram("postgres"), "-D", data), {
    ...at,
    check: [...check],
  });
}
