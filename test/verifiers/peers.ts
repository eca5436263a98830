/**
 * TLS peers on the libraries that verify chains elsewhere: built once a machine into a cache folder
 * outside of the tree by `bun test/verifiers/peers.ts`, each from one source next to this file.
 *
 * A peer is run as `PROGRAM CHAIN KEY ROOTS...`, all files in PEM. By each root set it verifies the
 * chain in a real handshake with itself, first as a client, then as a server, with the default
 * limits of its library. As `PROGRAM verify CHAIN KEY ROOTS` it verifies peers one after the other
 * (test/verifiers/limits), CHAIN and KEY being its own: NSS and Python do only that.
 * @module
 */
import { execFile, execFileSync } from "node:child_process";
import { copyFileSync, existsSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { builtFolder, sourceHash } from "../fixtures/build-cache.ts";

export const LIBRARIES = ["JDK", "rustls", "mbed TLS", "GnuTLS", "Go"] as const;
export type Library = (typeof LIBRARIES)[number];

/** Those with a peer, by what they are built from. */
export const PEERS = [...LIBRARIES, "NSS", "Python"] as const;
export type Peer = (typeof PEERS)[number];

/** The roles in which a peer verifies. */
export type Role = "client" | "server";

/** What a peer said by one root set: null if it verified, else why not. */
export type Verdict = Readonly<Record<Role, string | null>>;

interface Build {
  /** Its source, a file or a folder next to this file. */
  readonly source: string;
  /** Files next to it that the build reads. */
  readonly besides?: readonly string[];
  /** What must be there to build and run it, as a command that succeeds. */
  readonly needs: readonly [command: string, ...args: string[]];
  /** How to get that. */
  readonly install: string;
  /** Builds into an empty folder. */
  readonly build: (
    source: string,
    folder: string,
  ) => readonly [command: string, args: readonly string[], env?: Record<string, string>];
  /** The command that runs it from there. */
  readonly command: (folder: string) => readonly [command: string, ...args: string[]];
}

const compiled =
  (program: string, ...libraries: string[]) =>
  (source: string, folder: string) =>
    [
      "cc",
      [
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        join(folder, program),
        source,
        // Where Debian has the headers of NSS.
        ...["-I/usr/include/nss", "-I/usr/include/nspr"],
        ...libraries,
        "-lpthread",
      ],
    ] as const;
const alone = (program: string) => (folder: string) => [join(folder, program)] as const;
/** A header is there. */
const header = (path: string) =>
  ["cc", "-fsyntax-only", "-include", path, "-x", "c", "/dev/null"] as const;

const BY_LINES = ["by-lines.h"];

const BUILDS: Readonly<Record<Peer, Build>> = {
  JDK: {
    source: "JdkPeer.java",
    needs: ["javac", "-version"],
    install: "apt-get install default-jdk-headless",
    build: (source, folder) => ["javac", ["-Xlint:all", "-Werror", "-d", folder, source]],
    command: (folder) => [
      "java",
      "-XX:TieredStopAtLevel=1",
      "-XX:+UseSerialGC",
      "-cp",
      folder,
      "JdkPeer",
    ],
  },
  rustls: {
    source: "rustls",
    needs: ["cargo", "--version"],
    install: "https://rustup.rs, with Rust 1.78 or later",
    build: (source, folder) => [
      "cargo",
      [
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--manifest-path",
        join(source, "Cargo.toml"),
        "--target-dir",
        join(folder, "target"),
      ],
    ],
    command: (folder) => [join(folder, "rustls-peer")],
  },
  "mbed TLS": {
    source: "mbedtls-peer.c",
    besides: BY_LINES,
    needs: header("mbedtls/ssl.h"),
    install: "apt-get install gcc libc6-dev libmbedtls-dev",
    build: compiled("mbedtls-peer", "-lmbedtls", "-lmbedx509", "-lmbedcrypto"),
    command: alone("mbedtls-peer"),
  },
  GnuTLS: {
    source: "gnutls-peer.c",
    besides: BY_LINES,
    needs: header("gnutls/gnutls.h"),
    install: "apt-get install gcc libc6-dev libgnutls28-dev",
    build: compiled("gnutls-peer", "-lgnutls"),
    command: alone("gnutls-peer"),
  },
  Go: {
    source: "go",
    needs: ["go", "version"],
    install: "https://go.dev/doc/install",
    build: (_, folder) => [
      "go",
      ["build", "-trimpath", "-o", join(folder, "go-peer"), "."],
      { CGO_ENABLED: "0", GOTOOLCHAIN: "local" },
    ],
    command: alone("go-peer"),
  },
  NSS: {
    source: "nss-peer.c",
    besides: BY_LINES,
    needs: header("nspr/nspr.h"),
    install: "apt-get install gcc libc6-dev libnss3-dev",
    build: compiled("nss-peer", "-lnss3", "-lssl3", "-lnssutil3", "-lnspr4"),
    command: alone("nss-peer"),
  },
  Python: {
    source: "python-peer.py",
    needs: ["python3", "-c", "import ssl"],
    install: "apt-get install python3",
    build: (source, folder) => ["cp", [source, folder]],
    command: (folder) => ["python3", join(folder, "python-peer.py")],
  },
};

/** Why the peer of a library cannot be built here, or false. With CI=true nothing is skipped. */
export function noPeer(library: Peer): string | false {
  if (process.env.CI === "true") return false;
  const { needs, install } = BUILDS[library];
  const [command, ...args] = needs;
  try {
    execFileSync(command, args, { stdio: "ignore" });
    return false;
  } catch {
    return `what the peer on ${library} is built with is not installed (${install})`;
  }
}

const running = promisify(execFile);

/**
 * The command that runs a peer, built if it is not there yet.
 * @throws {Error} if it cannot be built
 */
export async function peerCommand(
  library: Peer,
): Promise<readonly [command: string, ...args: string[]]> {
  const { source: name, besides = [], build, command } = BUILDS[library];
  const source = join(import.meta.dirname, name);
  const hash = sourceHash(
    JSON.stringify(build("source", "folder")),
    ...[name, ...besides].map((file) => join(import.meta.dirname, file)),
  );
  const folder = await builtFolder("verifiers", `${name}-${hash}`, async (draft) => {
    const [program, args, env = {}] = build(source, draft);
    const cwd = statSync(source).isDirectory() ? source : import.meta.dirname;
    await running(program, [...args], { cwd, env: { ...process.env, ...env }, maxBuffer: 1 << 24 });
    const target = join(draft, "target");
    if (!existsSync(target)) return;
    copyFileSync(join(target, "release", "rustls-peer"), join(draft, "rustls-peer"));
    rmSync(target, { recursive: true });
  });
  return command(folder);
}

const LINE = /^(client|server) (.*)$/;

/**
 * Has a library verify a chain by root sets.
 * @param files paths in PEM: the leaf with its chain, its key, and each root set.
 * @param host a host name that the client verifies too, with Go and rustls.
 * @returns a verdict for each root set. @throws {Error} if the peer itself fails
 */
export async function verdicts(
  library: Library,
  {
    chain,
    key,
    roots,
  }: { readonly chain: string; readonly key: string; readonly roots: readonly string[] },
  host?: string,
): Promise<Verdict[]> {
  const [command, ...args] = await peerCommand(library);
  const { stdout } = await running(command, [...args, chain, key, ...roots], {
    timeout: 120_000,
    env: { ...process.env, ...(host === undefined ? {} : { PEER_HOST: host }) },
  });
  const lines = stdout
    .trim()
    .split("\n")
    .map((line) => LINE.exec(line));
  return roots.map((_, i) => {
    const said = (at: number, role: Role): string | null => {
      const [, by, text] = lines[at] ?? [];
      if (by !== role || text === undefined)
        throw new Error(`The peer on ${library} printed: ${stdout}`);
      return text === "ok" ? null : text;
    };
    return { client: said(2 * i, "client"), server: said(2 * i + 1, "server") };
  });
}

if (import.meta.main)
  for (const library of PEERS) console.log((await peerCommand(library)).join(" "));
