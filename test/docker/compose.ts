/**
 * compose.yaml in an engine: its commands, under a project name and ports of its own.
 * @module
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { ROOT } from "../fixtures/root.ts";
import { freePort } from "../redis/server.ts";
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
    const ports = [await freePort(), await freePort(), await freePort()];
    const webPort = await freePort();
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
