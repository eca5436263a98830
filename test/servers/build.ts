/**
 * Builds the servers of Vault's API that tests run against, once a machine, into a cache folder
 * outside the tree: `bun test/servers/build.ts`. Minutes if nothing of it was built before; a
 * change of their sources builds again.
 * @module
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export type VaultKind = "openbao" | "vault";

export const VAULT_KINDS: readonly VaultKind[] = ["openbao", "vault"];

/** Additional linker flags: OpenBao does not start without a version. */
const LINKER_FLAGS: Readonly<Record<VaultKind, string>> = {
  openbao: "-s -w -X github.com/openbao/openbao/version.fullVersion=2.4.0",
  vault: "-s -w",
};

/**
 * The program of a server, built if it does not exist yet.
 * @throws {Error} if it cannot be built
 */
export async function vaultProgram(kind: VaultKind): Promise<string> {
  const source = join(import.meta.dirname, kind);
  const hash = createHash("sha256").update(LINKER_FLAGS[kind]);
  for (const file of readdirSync(source).toSorted())
    hash.update(`${file}\0`).update(readFileSync(join(source, file)));
  const cache = process.env.XDG_CACHE_HOME ?? "";
  const folder = join(cache === "" ? join(homedir(), ".cache") : cache, "meshca", "servers");
  const program = join(folder, `${kind}-${hash.digest("hex").slice(0, 16)}`);
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  // Under another name until it is whole, since several may build at once.
  const draft = `${program}.${process.pid}`;
  const env = {
    ...process.env,
    CGO_ENABLED: "0",
    GOTOOLCHAIN: "local",
    GOFLAGS: "-mod=readonly -buildvcs=false",
  };
  await promisify(execFile)(
    "go",
    ["build", "-trimpath", "-ldflags", LINKER_FLAGS[kind], "-o", draft, "."],
    { cwd: source, env },
  );
  renameSync(draft, program);
  return program;
}

if (import.meta.main) for (const kind of VAULT_KINDS) console.log(await vaultProgram(kind));
