/**
 * Other implementations of X.509 as verifiers: they say whether a leaf verifies under roots. Go and
 * the JDK run as processes that live as long as the test, since a JDK takes half a second to start.
 * @module
 */
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { base64 } from "../../../src/core/bytes.ts";
import { certificatePem } from "../../../src/core/pem.ts";

export interface Question {
  /** DER, all of them. */
  readonly leaf: Uint8Array;
  /** What the leaf's holder sends along, in order. */
  readonly chain: readonly Uint8Array[];
  readonly roots: readonly Uint8Array[];
  readonly at: Date;
}

export interface Verifier {
  readonly name: string;
  /** Whether the leaf verifies as a server's and as a client's. @returns why not, or null. */
  verify(question: Question): Promise<string | null>;
  close(): void;
}

interface Tool {
  readonly name: string;
  /** Commands that must be there. */
  readonly needs: readonly string[];
  start(folder: string): Verifier;
}

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

const ALL: readonly Tool[] = [
  { name: "OpenSSL", needs: ["openssl"], start: (folder) => createOpenssl("OpenSSL", folder, []) },
  {
    name: "OpenSSL, strict",
    needs: ["openssl"],
    start: (folder) => createOpenssl("OpenSSL, strict", folder, ["-x509_strict"]),
  },
  {
    name: "Go",
    needs: ["go"],
    start(folder) {
      const program = join(folder, "go-verifier");
      execFileSync("go", ["build", "-o", program, "."], { cwd: here("./go"), stdio: "pipe" });
      return createProcess("Go", program, []);
    },
  },
  // The compiler, since the program is given as source.
  {
    name: "Java",
    needs: ["java", "javac"],
    start: () => createProcess("Java", "java", ["-XX:+UseSerialGC", here("./java/Verify.java")]),
  },
];

/**
 * The verifiers whose tools are installed, and the names of those that are missing. With CI=true
 * none may be.
 * @param names only these. @default all
 */
export function startVerifiers(names = ALL.map(({ name }) => name)): {
  readonly verifiers: readonly Verifier[];
  readonly missing: readonly string[];
  close(): void;
} {
  const folder = mkdtempSync(join(tmpdir(), "meshca-verifiers-"));
  const isThere = ({ needs }: Tool) =>
    needs.every((command) => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0);
  const tools = ALL.filter(({ name }) => names.includes(name));
  const missing = tools.filter((tool) => !isThere(tool)).map(({ name }) => name);
  if (missing.length > 0 && process.env.CI === "true")
    throw new Error(`Verifiers are missing: ${missing.join("; ")}`);
  const verifiers = tools.filter(isThere).map((tool) => tool.start(folder));
  return {
    verifiers,
    missing,
    close() {
      for (const verifier of verifiers) verifier.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

let files = 0;

function createOpenssl(name: string, folder: string, flags: readonly string[]): Verifier {
  const file = (certificates: readonly Uint8Array[]) => {
    const path = join(folder, `${++files}.pem`);
    writeFileSync(path, certificates.map((der) => certificatePem(der)).join(""));
    return path;
  };
  return {
    name,
    async verify({ leaf, chain, roots, at }) {
      const [leafFile, chainFile, rootsFile] = [file([leaf]), file(chain), file(roots)];
      const untrusted = chain.length === 0 ? [] : ["-untrusted", chainFile];
      const common = [
        "-no-CApath",
        "-no-CAstore",
        "-attime",
        String(Math.floor(at.getTime() / 1000)),
        "-CAfile",
        rootsFile,
        ...untrusted,
      ];
      for (const purpose of ["sslserver", "sslclient"]) {
        const reason = await run("openssl", [
          "verify",
          ...flags,
          ...common,
          "-purpose",
          purpose,
          leafFile,
        ]);
        if (reason !== null) return reason;
      }
      return null;
    },
    close() {},
  };
}

function run(command: string, args: readonly string[]): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(command, [...args], (error, _stdout, stderr) =>
      resolve(error === null ? null : (stderr || error.message).replaceAll(/\s+/g, " ")),
    );
  });
}

/** A process that is asked line by line, in the form that go/main.go describes. */
function createProcess(name: string, command: string, args: readonly string[]): Verifier {
  const child: ChildProcess = spawn(command, [...args], { stdio: ["pipe", "pipe", "inherit"] });
  const waiting = new Map<string, (reason: string | null) => void>();
  let asked = 0;
  if (child.stdout === null || child.stdin === null) throw new TypeError("A verifier has no pipes");
  const { stdin } = child;
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [id = "", reason = ""] = line.split("\t");
    waiting.get(id)?.(reason === "" ? null : reason);
    waiting.delete(id);
  });
  child.on("exit", () => {
    for (const answer of waiting.values()) answer(`${name} ended`);
  });
  const list = (certificates: readonly Uint8Array[]) =>
    certificates.map((der) => base64(der)).join(",");
  return {
    name,
    verify({ leaf, chain, roots, at }) {
      const id = String(++asked);
      const answer = new Promise<string | null>((resolve) => waiting.set(id, resolve));
      stdin.write(
        `${[id, Math.floor(at.getTime() / 1000), list([leaf]), list(chain), list(roots)].join("\t")}\n`,
      );
      return answer;
    },
    close: () => void stdin.end(),
  };
}
