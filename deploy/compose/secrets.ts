/**
 * Makes the secrets of compose.yaml that do not exist yet; `show NAME` prints one.
 *
 * The key-encryption key, the management token and the URL of the store are for the replicas, in
 * /secrets. The configuration with the password is for Redis, in /run/meshca.
 * @module
 */
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

const [command, name = ""] = process.argv.slice(2);

/** Writes a file at once whole, so that an interrupted start leaves no half of a secret. */
function write(path: string, text: string, mode = 0o400): void {
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}

function makeSecrets(): void {
  const random = (octets: number) => Buffer.from(crypto.getRandomValues(new Uint8Array(octets)));
  if (!existsSync("/secrets/kek"))
    write("/secrets/kek", `${new Date().getUTCFullYear()}:${random(32).toString("base64")}\n`);
  if (!existsSync("/secrets/management-token"))
    write("/secrets/management-token", `${crypto.randomUUID()}\n`);
  if (!existsSync("/secrets/store") || !existsSync("/run/meshca/redis.conf")) {
    const password = random(24).toString("hex");
    write("/secrets/store", `redis://:${password}@redis:6379\n`);
    // Only Redis mounts this folder, and its user is another one.
    write("/run/meshca/redis.conf", `requirepass ${password}\n`, 0o444);
    chmodSync("/run/meshca", 0o755);
  }
}

if (command === undefined) makeSecrets();
else if (command === "show" && /^(kek|management-token)$/.test(name))
  process.stdout.write(readFileSync(`/secrets/${name}`, "utf8"));
else {
  process.stderr.write("Usage: docker compose run --rm secrets [show kek|management-token]\n");
  process.exitCode = 64;
}
