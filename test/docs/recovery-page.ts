/**
 * The outputs in docs/recovery.md, made by the commands that it shows, against a server whose CA has
 * expired. Run with bun, this file writes them into the page.
 * @module
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { meshca, meshcaOnTerminal, plain } from "../cli/run.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { type AgentProcess, startAgent } from "../fixtures/agent.ts";
import { startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import {
  callUnverified,
  copyOf,
  makeExpiredFolder,
  pinIn,
  serviceToken,
  TOKEN,
  WITH_ACL,
} from "../recovery/expired.ts";
import { until } from "../redis/server.ts";

import { noOwnVault, startVault } from "../vault/server.ts";

const PAGE = join(ROOT, "docs/recovery.md");
const TLS = { ...WITH_ACL, MESHCA_TLS: "self" };
/** A block of output, and its name in the comment before it. */
const BLOCK = /^<!-- output: ([a-z-]+) -->\n\n```text\n(.*?)^```$/gms;

/** Names and texts of the blocks of output on the page. */
export const outputsOnPage = (): ReadonlyMap<string, string> =>
  new Map(
    [...readFileSync(PAGE, "utf8").matchAll(BLOCK)].map(([, name = "", text = ""]) => [name, text]),
  );

/** A text in which all that differs from run to run is replaced. */
export const withoutValues = (text: string): string =>
  text
    .replaceAll(/(?:[0-9a-f]{2}:){19}[0-9a-f]{2}/g, "ID")
    .replaceAll(/sha256:[0-9a-f]{64}/g, "sha256:HEX")
    .replaceAll(/issuer\/[0-9a-f-]{36}/g, "issuer/UUID")
    .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "UUID")
    .replaceAll(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| \+0000 UTC)/g, "TIME")
    .replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d UTC/g, "TIME")
    .replaceAll(/about \d+ lea(?:f|ves)/g, "about N leaves")
    .replaceAll(/\d{4}-\d\d-\d\d/g, "DAY")
    .replaceAll(/\b\d+[dhms](?: \d+[hms])?\b(?= left| ago)/g, "SPAN")
    .replaceAll(/^(staleness_ms|clock_offset_ms|index|term): -?\d+$/gm, "$1: N")
    // Columns follow the widest value.
    .replaceAll(/ {2,}/g, "  ");

/** The outputs of now, by name. */
export async function outputs(): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  let token = "";
  let oldRoots = "";
  const expired = await makeExpiredFolder(TLS, async ({ url }) => {
    token = await serviceToken(url, "web");
    oldRoots = await callUnverified(`${url}/v1/connect/ca/roots?pem=true`);
  });
  const rotated = copyOf(expired);
  const folder = mkdtempSync(join(tmpdir(), "meshca-page-"));
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const server = await startServer({ ...TLS, MESHCA_DATA_DIR: expired });
  let agent: AgentProcess | null = null;
  try {
    const environment = { MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: TOKEN };
    const run = async (args: readonly string[], dataDir: string, at = environment) => {
      const pinned = { ...at, MESHCA_SERVER_PIN: pinIn(dataDir) };
      const { stdout, stderr } = await meshca(args, pinned, "", undefined, folder);
      return stdout + stderr;
    };
    /** As the page names addresses and files. */
    const keep = (name: string, text: string) =>
      found.set(
        name,
        text
          .replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1:8501")
          .replaceAll(expired, ".meshca")
          .replaceAll(join(folder, "roots.pem"), "/etc/meshca/roots.pem"),
      );
    await until(async () => (await callAny(`${server.url}/v1/status/leader`)) !== '""');
    keep("status", await run(["status"], expired));
    keep("readyz", await callAny(`${server.url}/readyz`));
    keep(
      "log",
      server
        .stdout()
        .split("\n")
        .filter((line) => line.includes('"level":"ERROR"'))
        .map((line) => {
          const { level, message, reason } = JSON.parse(line) as Record<string, string>;
          return `${level} ${message}${reason === undefined ? "" : ` (${reason})`}\n`;
        })
        .join(""),
    );
    agent = await startAgent(
      [
        ...["--server", server.url, "--ca-file", file("roots.pem", oldRoots), "--service", "web"],
        ...["--token-file", file("token", token), "--listen", "127.0.0.1:0"],
      ],
      { until: "open" },
    );
    await agent.logged(
      "No new connection to a server can be verified any more: certificates in use stay in use until they expire",
    );
    const trust = async () => {
      const text = await (await fetch(`${agent?.url()}/readyz`)).text();
      return text.split("\n").filter((line) => /^(?:ok|not ready|trust: .*)$/.test(line));
    };
    keep("agent", `${(await trust()).join("\n")}\n`);

    const interrupted = await meshcaOnTerminal(
      ["recover"],
      { ...environment, MESHCA_DATA_DIR: expired },
      {
        ...{ cwd: folder, columns: 500 },
        type: [
          ["Create these files? [y/N]", "y\r"],
          ["Send them? [y/N]", "\u0003"],
        ],
      },
    );
    keep("interrupted", `${shown(interrupted.screen).trimEnd().split("\n").at(-1)}\n`);
    for (const name of ["meshca-recovery-root.pem", "meshca-recovery-root-key.pem"])
      rmSync(join(folder, name));
    const recovered = await meshcaOnTerminal(
      ["recover"],
      { ...environment, MESHCA_DATA_DIR: expired },
      {
        ...{ cwd: folder, columns: 500 },
        type: [
          ["Create these files? [y/N]", "y\r"],
          ["Send them? [y/N]", "y\r"],
        ],
      },
    );
    keep("recover", shown(recovered.screen));
    await run(["status"], expired);
    const [, typed = ""] =
      /run (meshca .*) with the fingerprint/.exec((await trust())[1] ?? "") ?? [];
    spawnSync("sh", [
      "-c",
      typed
        .replace(/^meshca/, `${process.execPath} ${join(ROOT, "src/cli/main.ts")}`)
        .replace("sha256:FINGERPRINT", pinIn(expired)),
    ]);
    await agent.logged("Servers can be verified again, by a root that is valid");
    await agent.logged("Ready");
    keep("status-after", await run(["status"], expired));
    rmSync(join(folder, "meshca-recovery-root.pem"));
    keep("healthy", await run(["recover", "--yes"], expired));

    if (noOwnVault === false) found.set("vault", await sealedVault(folder));
    found.set("tls-expired", await expiredTls(rotated, folder));
    const other = await startServer({ ...TLS, MESHCA_DATA_DIR: rotated });
    const at = { ...environment, MESHCA_HTTP_ADDR: other.url };
    keep("rotate", await run(["rotate", "--yes"], rotated, at));
    await other.stop();
  } finally {
    await agent?.stop();
    await server.stop();
    for (const name of [expired, rotated, folder]) rmSync(name, { recursive: true, force: true });
  }
  return found;
}

/** `meshca recover` if the Vault with the root is sealed, and the root is still valid. */
async function sealedVault(folder: string): Promise<string> {
  const vault = await startVault({ kind: "openbao" });
  const server = await startServer({
    ...{ ...WITH_ACL, MESHCA_VAULT_ALLOW: new URL(vault.address).host },
  });
  const call = (method: string, path: string, body: string) =>
    fetch(`${server.url}/v1/connect/ca/${path}`, {
      ...{ method, body, headers: { "X-Consul-Token": TOKEN } },
    });
  try {
    const Config = {
      ...{ Address: vault.address, Token: vault.token },
      ...{ RootPKIPath: "connect-root", IntermediatePKIPath: "connect-intermediate" },
    };
    // As the CA began in Vault: the root before it is abandoned.
    const config = { Provider: "vault", Config, ForceWithoutCrossSigning: true };
    const set = await call("PUT", "configuration", JSON.stringify(config));
    if (set.status !== 200) throw new Error(await set.text());
    await vault.seal();
    const uri = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`;
    await call("PUT", "sign", opensslCsr(`URI:${uri}`).csr);
    const environment = { MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: TOKEN };
    const ran: string[] = [];
    for (const flags of ["--yes", "--yes --continue --force-without-cross-signing"]) {
      const args = ["recover", ...flags.split(" ")];
      const { stdout, stderr } = await meshca(args, environment, "", undefined, folder);
      ran.push(`$ meshca recover ${flags}\n${stdout}${stderr}`);
    }
    rmSync(join(folder, "meshca-recovery-root.pem"));
    return ran.join("\n").replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1:8500");
  } finally {
    await server.stop();
    await vault.stop();
  }
}

/** What commands say of a server whose own certificate is in files and has expired. */
async function expiredTls(dataDir: string, folder: string): Promise<string> {
  const { key, certificate } = makeRoot("a.example", {
    validity: ["20250101000000Z", "20260101000000Z"],
    extensions: ["subjectAltName=IP:127.0.0.1", "extendedKeyUsage=serverAuth"],
  });
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const caFile = file("server.pem", certificate);
  const server = await startServer({
    ...{ ...WITH_ACL, MESHCA_DATA_DIR: dataDir, MESHCA_TLS_CERT_FILE: caFile },
    MESHCA_TLS_KEY_FILE: file("server.key", key),
  });
  try {
    const environment = { MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: TOKEN };
    const refused = await meshca(["roots", "--ca-file", caFile], environment);
    // The fingerprint in the data folder is that of the expired certificate: it is accepted.
    const pinned = await meshca(["roots", "--server-pin", pinIn(dataDir)], environment);
    if (pinned.code !== 0) throw new Error(pinned.stderr);
    return refused.stderr.replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1:8501");
  } finally {
    await server.stop();
  }
}

/** What a terminal shows in the end: a question is drawn again with each key. */
function shown(screen: string): string {
  const lines = plain(screen)
    .split("\n")
    .map((line) => line.split("\r").findLast((part) => part !== "") ?? "");
  return lines
    .filter((line, i) => line === "" || !(lines[i + 1] ?? "").startsWith(line))
    .join("\n");
}

/** The body of an answer, whichever its status. */
async function callAny(url: string): Promise<string> {
  try {
    return await callUnverified(url);
  } catch (error) {
    return error instanceof Error ? error.message.replace(/^GET \S+: \d+: /, "") : "";
  }
}

if (import.meta.main) {
  const made = await outputs();
  const page = readFileSync(PAGE, "utf8").replaceAll(
    BLOCK,
    (_, name: string, text: string) =>
      `<!-- output: ${name} -->\n\n\`\`\`text\n${made.get(name) ?? text}\`\`\``,
  );
  writeFileSync(PAGE, page);
}
