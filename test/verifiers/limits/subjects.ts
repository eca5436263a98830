/**
 * The verifiers that are held to their row: each is started with the roots that it trusts, and is shown
 * chains as a client and as a server, in real handshakes.
 * @module
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { noClient, noProgram } from "../../interop/clients.ts";
import { noPeer, type Peer, peerCommand, type Role } from "../peers.ts";
import { ByLines } from "./by-lines.ts";
import type { Presented } from "./material.ts";
import {
  type ProxyFiles,
  type RunningProxy,
  startEnvoy,
  startHaproxy,
  startNginx,
} from "./proxies.ts";

/** A verifier that runs. */
export interface Subject {
  /** @returns why it refuses a peer, null if it accepts it */
  verify(role: Role, presented: Presented): Promise<string | null>;
  stop(): Promise<void>;
}

type Files = ProxyFiles & { readonly presenter: ByLines };

/** A verifier that can be started here. */
export interface Tried {
  readonly name: string;
  /** The rows of the table that it is held to, as they are named there. */
  readonly rows: Readonly<Record<Role, string>>;
  /** Why it cannot be started here, or false. */
  readonly missing: string | false;
  start(files: Files): Promise<Subject>;
}

const both = (name: string) => ({ client: name, server: name });

const peer = (name: string, library: Peer, env: Record<string, string> = {}): Tried => ({
  name,
  rows: both(name),
  missing: noPeer(library),
  start: async (files) => subjectOf(await peerCommand(library), files, env),
});

async function subjectOf(
  [program, ...args]: readonly [string, ...string[]],
  { chain, key, roots, presenter }: Files,
  env: Record<string, string> = {},
): Promise<Subject> {
  const process = await ByLines.start([program, ...args, "verify", chain, key, roots], env);
  return {
    async verify(role, presented) {
      await use(presenter, presented);
      if (role === "client") return process.ask(`client ${presenter.port}`);
      const outcome = process.ask("server");
      await presenter.ask(`connect 127.0.0.1:${process.port}`);
      return outcome;
    },
    stop: () => process.stop(),
  };
}

async function use(presenter: ByLines, { chain, key }: Presented): Promise<void> {
  const fault = await presenter.ask(`use ${chain} ${key}`);
  if (fault !== null) throw new Error(`The presenter cannot use ${chain}: ${fault}`);
}

const proxy = (
  name: string,
  missing: string | false,
  startIt: (files: ProxyFiles) => Promise<RunningProxy>,
): Tried => ({
  name,
  rows: both(name),
  missing: missing || noPeer("Go"),
  async start(files) {
    const { inbound, outbound, program } = await startIt(files);
    return {
      async verify(role, presented) {
        await use(files.presenter, presented);
        const fault =
          role === "server"
            ? await files.presenter.ask(`connect ${inbound}`)
            : await faultOf(await fetch(`http://${outbound}/`));
        // What it logs says more, if it has logged it already.
        return fault === null ? null : `${fault} ${program.output().slice(-1_000)}`;
      },
      stop: () => program.stop(),
    };
  },
});

async function faultOf(response: Response): Promise<string | null> {
  const text = await response.text();
  return response.status === 200 ? null : `${response.status} ${text}`;
}

/** The Java Development Kits that are installed where Debian and Temurin put them, by their version. */
function jdks(): ReadonlyMap<number, string> {
  const folder = "/usr/lib/jvm";
  const found = new Map<number, string>();
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const [release, java] = [join(folder, name, "release"), join(folder, name, "bin/java")];
    // A runtime without the tools of development is not one to test with.
    if (![release, java, join(folder, name, "bin/javap")].every((path) => existsSync(path)))
      continue;
    const version = /^JAVA_VERSION="(\d+)/m.exec(readFileSync(release, "utf8"))?.[1];
    if (version !== undefined) found.set(Number(version), java);
  }
  return found;
}

/**
 * Whether a JDK has limits of its own for servers and for clients: since 22, and since an update of an
 * older one that has this change, too (JDK-8313236).
 */
function hasSeparateLimits(java: string): boolean {
  const javap = join(dirname(java), "javap");
  const shown = execFileSync(
    javap,
    ["-p", "--module", "java.base", "sun.security.ssl.SSLConfiguration"],
    { encoding: "utf8" },
  );
  return shown.includes("maxInboundClientCertChainLen");
}

/** That of Debian, and others that are installed. */
const JDKS: readonly Tried[] = [...jdks()].map(([version, java]) => ({
  name: `jdk ${version}`,
  rows: { client: "jdk-client", server: hasSeparateLimits(java) ? "jdk" : "jdk-17" },
  missing: noPeer("JDK"),
  async start(files) {
    const [, ...args] = await peerCommand("JDK");
    return subjectOf([java, ...args], files);
  },
}));

export const SUBJECTS: readonly Tried[] = [
  peer("openssl", "Python"),
  peer("python-strict", "Python", { PEER_STRICT: "1" }),
  proxy("envoy", noClient("envoy"), startEnvoy),
  peer("go", "Go"),
  ...JDKS,
  peer("rustls", "rustls"),
  peer("mbedtls", "mbed TLS"),
  peer("gnutls", "GnuTLS"),
  peer("nss", "NSS"),
  proxy("nginx", noProgram("nginx"), (files) => startNginx(files, 1)),
  proxy("nginx:8", noProgram("nginx"), (files) => startNginx(files, 8)),
  proxy("haproxy", noProgram("haproxy"), startHaproxy),
];

/** Presents chains. @throws {Error} if it cannot be built */
export async function startPresenter(): Promise<ByLines> {
  const [program, ...args] = await peerCommand("Go");
  return ByLines.start([program, ...args, "present"]);
}
