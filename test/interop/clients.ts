/**
 * The clients that nobody here wrote, and the programs around them: built or installed once a
 * machine into a cache folder outside of the tree by `bun test/interop/clients.ts`, with exact
 * versions, each from one folder in `clients/`.
 * @module
 */
import { execFile, execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { builtFolder, sourceHash } from "../fixtures/build-cache.ts";

export const CLIENTS = [
  "go-spiffe",
  "py-spiffe",
  "java-spiffe",
  "spiffe-helper",
  "envoy",
  "consul-cli",
  "consul-connect",
  "consul-template",
] as const;
export type Client = (typeof CLIENTS)[number];

/** A program and its first arguments. */
export type ProgramCommand = readonly [program: string, ...args: string[]];

interface Step {
  readonly command: ProgramCommand;
  readonly env?: Readonly<Record<string, string>>;
}

interface Build {
  /** What must be there to build and run it, as commands that succeed, and how to get it. */
  readonly needs: readonly (readonly [command: ProgramCommand, install: string])[];
  /** Folders next to the client's own that the build reads. */
  readonly besides?: readonly string[];
  /** Commands, run in the client's folder, that fill a folder. */
  readonly steps: (folder: string) => readonly Step[];
  /** The command that runs it from there. */
  readonly command: (folder: string) => ProgramCommand;
}

const CLIENTS_FOLDER = join(import.meta.dirname, "clients");

const GO = [["go", "version"], "https://go.dev/doc/install"] as const;
const PIP = [["python3", "-m", "pip", "--version"], "apt-get install python3-pip"] as const;

/** A program in Go, from the package of a client's module. */
const go = (name: string, pack: string, besides: readonly string[] = []): Build => ({
  needs: [GO],
  besides,
  steps: (folder) => [
    {
      command: ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", join(folder, name), pack],
      env: { CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOFLAGS: "-mod=readonly -buildvcs=false" },
    },
  ],
  command: (folder) => [join(folder, name)],
});

/** Packages of PyPI. No build: each is a wheel. */
const pip = (command: Build["command"]): Build => ({
  needs: [PIP],
  steps: (folder) => [
    {
      command: [
        ...(["python3", "-m", "pip", "install", "--quiet", "--no-deps"] as const),
        ...["--only-binary", ":all:", "--root-user-action", "ignore"],
        ...["--target", folder, "--requirement", "requirements.txt"],
      ],
    },
  ],
  command,
});

const BUILDS: Readonly<Record<Client, Build>> = {
  "go-spiffe": go("go-spiffe", ".", ["report"]),
  "py-spiffe": pip((folder) => [
    "/usr/bin/env",
    `PYTHONPATH=${folder}`,
    "python3",
    join(CLIENTS_FOLDER, "py-spiffe", "peer.py"),
  ]),
  "java-spiffe": {
    needs: [
      [["javac", "-version"], "apt-get install default-jdk-headless"],
      [["mvn", "--version"], "apt-get install maven"],
    ],
    steps: (folder) => [
      {
        command: [
          ...(["mvn", "--batch-mode", "--quiet", "--file", "pom.xml"] as const),
          "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
          ...[`-DoutputDirectory=${folder}`, "-DincludeScope=runtime"],
        ],
      },
      {
        command: ["javac", "-Xlint:all", "-d", folder, "-cp", `${folder}/*`, "JavaPeer.java"],
      },
    ],
    command: (folder) => [
      ...(["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"] as const),
      ...["-cp", `${folder}:${folder}/*`, "JavaPeer"],
    ],
  },
  "spiffe-helper": go("spiffe-helper", "github.com/spiffe/spiffe-helper/cmd/spiffe-helper"),
  envoy: pip((folder) => [join(folder, "envoy", "_bin", "envoy")]),
  "consul-cli": go("consul-cli", "."),
  "consul-connect": go("consul-connect", ".", ["report"]),
  "consul-template": go("consul-template", "github.com/hashicorp/consul-template"),
};

/** Programs of the system: what finds them, and the package that has them. */
const PROGRAMS = {
  nginx: ["nginx", "-v"],
  haproxy: ["haproxy", "-v"],
  caddy: ["caddy", "version"],
  curl: ["curl", "--version"],
  "redis-server": ["redis-server", "--version"],
} as const satisfies Readonly<Record<string, ProgramCommand>>;
export type Program = keyof typeof PROGRAMS | "postgresql";

/** Debian has the programs of a PostgreSQL server outside of PATH. */
export function postgresFolder(): string | null {
  const all = "/usr/lib/postgresql";
  const versions = existsSync(all) ? readdirSync(all).map(Number) : [];
  const newest = versions.filter((version) => version > 0).toSorted((a, b) => b - a)[0];
  return newest === undefined ? null : join(all, String(newest), "bin");
}

function runs([program, ...args]: ProgramCommand): boolean {
  try {
    execFileSync(program, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Why a client cannot be built here, or false. With CI=true nothing is skipped. */
export function noClient(client: Client): string | false {
  if (process.env.CI === "true") return false;
  for (const [command, install] of BUILDS[client].needs)
    if (!runs(command)) return `what ${client} is built with is not installed (${install})`;
  return false;
}

/** Why a program of the system cannot be run here, or false. With CI=true nothing is skipped. */
export function noProgram(program: Program): string | false {
  if (process.env.CI === "true") return false;
  const isThere = program === "postgresql" ? postgresFolder() !== null : runs(PROGRAMS[program]);
  return isThere ? false : `${program} is not installed (apt-get install ${program})`;
}

const running = promisify(execFile);

/**
 * The command that runs a client, built if it is not there yet.
 * @throws {Error} if it cannot be built
 */
export async function clientCommand(client: Client): Promise<ProgramCommand> {
  const { besides = [], steps, command } = BUILDS[client];
  const source = join(CLIENTS_FOLDER, client);
  const others = besides.map((name) => join(CLIENTS_FOLDER, name));
  const hash = sourceHash(JSON.stringify(steps("folder")), source, ...others);
  const folder = await builtFolder("interop", `${client}-${hash}`, async (draft) => {
    for (const {
      command: [program, ...args],
      env = {},
    } of steps(draft))
      await running(program, args, {
        cwd: source,
        env: { ...process.env, ...env },
        maxBuffer: 1 << 24,
      });
  });
  return command(folder);
}

if (import.meta.main)
  for (const client of CLIENTS) console.log((await clientCommand(client)).join(" "));
