/**
 * compose.yaml in an engine: its commands, under a project name and ports of its own.
 * @module
 */
import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { promisify } from "node:util";
import { ROOT } from "../fixtures/root.ts";
import type { Engine } from "./engine.ts";
import type { Images } from "./stand-ins.ts";

const run = promisify(execFile);
/** Output of a test suite may be long, in octets. */
const MAX_OUTPUT = 64 * 1024 * 1024;

/** Output of a command; it rejects with all of it if the command fails. */
export async function output(
  [program = "", ...args]: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const { stdout } = await run(program, args, { env, cwd: ROOT, maxBuffer: MAX_OUTPUT }).catch(
    (error: { stdout?: string; stderr?: string; message: string }) => {
      throw new Error(`${error.message}\n${error.stdout ?? ""}\n${error.stderr ?? ""}`);
    },
  );
  return stdout;
}

/** What a command of Compose printed on both outputs, also if it failed. */
async function allOutput(
  [program = "", ...args]: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const printed = await run(program, args, { env, cwd: ROOT, maxBuffer: MAX_OUTPUT }).catch(
    (error: { stdout?: string; stderr?: string }) => error,
  );
  return `${printed.stdout ?? ""}${printed.stderr ?? ""}`;
}

/**
 * A free port below those that the system gives to tests that listen on port 0 (from 32768 on,
 * ip(7)): it stays free until Compose publishes it, and over restarts.
 */
async function fixedPort(taken: readonly number[]): Promise<number> {
  for (;;) {
    const port = 21_000 + Math.floor(Math.random() * 11_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (isFree) await new Promise((resolve) => server.close(resolve));
    if (isFree && !taken.includes(port)) return port;
  }
}

/** Compose v2 if the docker command has it, else docker-compose. */
async function composeCommand(env: NodeJS.ProcessEnv): Promise<readonly string[]> {
  return output(["docker", "compose", "version"], env).then(
    () => ["docker", "compose"],
    () => ["docker-compose"],
  );
}

export class Project {
  readonly env: NodeJS.ProcessEnv;
  /** The ports of the replicas 1 to 3 on loopback. */
  readonly ports: readonly number[];
  readonly webPort: number;
  readonly #name: string;
  readonly #command: readonly string[];

  private constructor(
    env: NodeJS.ProcessEnv,
    command: readonly string[],
    ports: readonly number[],
    webPort: number,
  ) {
    this.#name = `meshca-test-${process.pid}`;
    this.#command = command;
    this.ports = ports;
    this.webPort = webPort;
    this.env = env;
  }

  static async create(engine: Engine, images: Partial<Images>, image: string): Promise<Project> {
    const ports: number[] = [];
    for (let i = 0; i < 3; i++) ports.push(await fixedPort(ports));
    const webPort = await fixedPort(ports);
    const env = {
      ...engine.environment,
      ...images,
      MESHCA_IMAGE: image,
      WEB_PORT: String(webPort),
      ...Object.fromEntries(ports.map((port, i) => [`REPLICA_${i + 1}_PORT`, String(port)])),
    };
    return new Project(env, await composeCommand(engine.environment), ports, webPort);
  }

  /** A command of Compose. @returns its standard output */
  compose(...args: string[]): Promise<string> {
    return this.composeWith(this.env, ...args);
  }

  /** The same with another environment. */
  composeWith(env: NodeJS.ProcessEnv, ...args: string[]): Promise<string> {
    return output([...this.#command, "--project-name", this.#name, ...args], env);
  }

  /** The output of a test suite that a service of the file runs. @param files of the tests. */
  suite(profile: string, service: string, files: string): Promise<string> {
    return allOutput(
      [
        ...[...this.#command, "--project-name", this.#name],
        ...["--profile", profile, "run", "--rm", service],
      ],
      { ...this.env, TESTS: files },
    );
  }

  docker(...args: string[]): Promise<string> {
    return output(["docker", ...args], this.env);
  }

  /** A field of the container of a service, by a template of Go. */
  async inspect(service: string, template: string): Promise<string> {
    const [id = ""] = (await this.compose("ps", "-q", service)).trim().split("\n");
    return (await this.docker("inspect", "--format", template, id)).trim();
  }
}

/** Builds the image. @param version its label */
export async function buildImage(
  tag: string,
  version: string,
  images: Partial<Images>,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const args = ["BASE", "BUILDER"].flatMap((name) => {
    const value = images[name as "BASE" | "BUILDER"];
    return value === undefined ? [] : ["--build-arg", `${name}=${value}`];
  });
  const labels = ["--build-arg", `VERSION=${version}`, "--build-arg", "REVISION=test"];
  await output(
    ["docker", "build", "--network", "host", ...args, ...labels, "--tag", tag, "."],
    env,
  );
}
