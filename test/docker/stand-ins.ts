/**
 * Stand-ins for the base images of Dockerfile and compose.yaml, where no registry of images is
 * reached: each has what the file of the same name uses of the published image, taken from this
 * machine.
 * @module
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { vaultProgram } from "../servers/build.ts";

/** The authorities of public certificates, those of this machine included. */
const AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt";

/** Images by the variables of compose.yaml and the build arguments of Dockerfile. */
export interface Images {
  readonly BASE: string;
  readonly BUILDER: string;
  readonly REDIS_IMAGE: string;
  readonly TEST_IMAGE: string;
  readonly VAULT_IMAGE: string;
  readonly OPENBAO_IMAGE: string;
}

interface StandIn {
  /** Programs of this machine, by their path in the image. */
  readonly programs: Readonly<Record<string, string>>;
  /** A program whose shared libraries it has too. */
  readonly librariesOf?: string;
  /** Whether it has a shell and its commands (busybox). */
  readonly shell?: boolean;
  /** Files by their path in the image. */
  readonly files?: Readonly<Record<string, string>>;
  /** More lines of its Dockerfile. */
  readonly lines?: readonly string[];
}

/** What `vault server -dev` does: the server of the tests, unsealed, with the root token `root`. */
const VAULT_DEV = `#!/bin/sh
set -eu
/bin/vault-server -listen 0.0.0.0:8200 &
server=$!
trap 'kill $server' TERM INT
url=http://127.0.0.1:8200/v1
api() { wget -q -O - "$@"; }
until api $url/sys/init >/dev/null 2>&1; do sleep 0.2; done
made=$(api --post-data '{"secret_shares":1,"secret_threshold":1}' $url/sys/init)
key=$(echo "$made" | sed 's/.*"keys_base64":\\["\\([^"]*\\).*/\\1/')
token=$(echo "$made" | sed 's/.*"root_token":"\\([^"]*\\).*/\\1/')
api --post-data "{\\"key\\":\\"$key\\"}" $url/sys/unseal >/dev/null
until api $url/sys/health >/dev/null 2>&1; do sleep 0.2; done
api --header "X-Vault-Token: $token" --post-data '{"id":"root"}' $url/auth/token/create >/dev/null
wait $server
`;

const found = (program: string) =>
  realpathSync(execFileSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).trim());

/** The shared libraries of a program, with its loader; none of a static one. */
function librariesOf(program: string): string[] {
  try {
    const listed = execFileSync("ldd", [program], { encoding: "utf8", stdio: "pipe" });
    return [...listed.matchAll(/(?:=> |^\s)(\/\S+) \(/gm)].map(([, path = ""]) => path);
  } catch {
    return [];
  }
}

function copyInto(root: string, path: string, source: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  copyFileSync(source, join(root, path));
}

/** Builds an image from files of this machine. */
function build(tag: string, image: StandIn, env: NodeJS.ProcessEnv): void {
  const { programs, shell, files, lines } = image;
  const context = mkdtempSync(join(tmpdir(), "meshca-image-"));
  const root = join(context, "root");
  try {
    const all = { ...programs, ...(shell === true ? { "/bin/busybox": found("busybox") } : {}) };
    for (const [path, source] of Object.entries(all)) {
      copyInto(root, path, source);
      for (const library of librariesOf(source)) copyInto(root, library, library);
    }
    if (image.librariesOf !== undefined)
      for (const library of librariesOf(image.librariesOf)) copyInto(root, library, library);
    copyInto(root, AUTHORITIES, AUTHORITIES);
    const standard = {
      "/etc/passwd":
        "root:x:0:0:root:/root:/bin/sh\nnonroot:x:65532:65532:nonroot:/home/nonroot:/bin/false\n",
      "/etc/group": "root:x:0:\nnonroot:x:65532:\n",
      "/etc/nsswitch.conf": "hosts: files dns\n",
    };
    for (const [path, text] of Object.entries({ ...standard, ...files })) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text, { mode: 0o755 });
    }
    mkdirSync(join(root, "tmp"), { recursive: true });
    execFileSync("chmod", ["1777", join(root, "tmp")]);
    if (shell === true)
      for (const name of execFileSync(found("busybox"), ["--list"], { encoding: "utf8" }).split(
        "\n",
      ))
        if (name !== "" && name !== "busybox") linkTo(root, name);
    writeFileSync(
      join(context, "Dockerfile"),
      ["FROM scratch", "COPY root /", `ENV NODE_EXTRA_CA_CERTS=${AUTHORITIES}`, ...(lines ?? [])]
        .join("\n")
        .concat("\n"),
    );
    execFileSync("docker", ["build", "--quiet", "--tag", tag, context], { env, stdio: "pipe" });
  } finally {
    rmSync(context, { recursive: true, force: true });
  }
}

function linkTo(root: string, name: string): void {
  execFileSync("ln", ["-sf", "busybox", join(root, "bin", name)]);
}

/** Builds the stand-ins. @returns the variables and build arguments that name them */
export async function buildStandIns(env: NodeJS.ProcessEnv): Promise<Images> {
  const tag = (name: string) => `meshca-stand-in-${name}`;
  const bun = realpathSync(process.execPath);
  build(tag("base"), { programs: {}, librariesOf: bun }, env);
  build(
    tag("bun"),
    {
      shell: true,
      programs: {
        "/usr/local/bin/bun": bun,
        "/usr/bin/openssl": found("openssl"),
        "/usr/lib/ssl/openssl.cnf": realpathSync("/etc/ssl/openssl.cnf"),
      },
    },
    env,
  );
  // The published image has protected mode off, Debian's package has it on.
  const server =
    '#!/bin/sh\nif [ "$1" = redis-server ]; then shift; fi\nexec /usr/bin/redis-server "$@" --protected-mode no\n';
  build(
    tag("redis"),
    {
      shell: true,
      programs: {
        "/usr/bin/redis-server": found("redis-server"),
        "/usr/bin/redis-cli": found("redis-cli"),
      },
      files: { "/usr/local/bin/docker-entrypoint.sh": server },
      lines: [
        "WORKDIR /data",
        "VOLUME /data",
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        'CMD ["redis-server"]',
      ],
    },
    env,
  );
  build(
    tag("openbao"),
    {
      shell: true,
      programs: { "/bin/bao": await vaultProgram("openbao") },
      lines: ["ENV HOME=/root", 'ENTRYPOINT ["/bin/bao"]'],
    },
    env,
  );
  build(
    tag("vault"),
    {
      shell: true,
      programs: { "/bin/vault-server": await vaultProgram("vault") },
      files: { "/bin/vault": VAULT_DEV },
      lines: ['ENTRYPOINT ["/bin/vault"]'],
    },
    env,
  );
  return {
    BASE: tag("base"),
    BUILDER: tag("bun"),
    REDIS_IMAGE: tag("redis"),
    TEST_IMAGE: tag("bun"),
    VAULT_IMAGE: tag("vault"),
    OPENBAO_IMAGE: tag("openbao"),
  };
}
