/**
 * Peers that make handshakes: processes that print what they count as JSON lines, and clients that
 * are started for each handshake.
 * @module
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { colonHex } from "../../src/core/bytes.ts";
import { readCertificatePem } from "../../src/core/x509/certificate.ts";
import { fail } from "./failure.ts";

export const SIDES = ["peer", "own"] as const;
/** Whose leaf: that of the other side, or the one that this side presents. */
export type Side = (typeof SIDES)[number];

export interface Peer {
  readonly name: string;
  readonly handshakes: number;
  readonly failures: readonly string[];
  /** Resolves if a leaf of an issuer was presented. @param keyId as in SigningKeyID. */
  saw(side: Side, keyId: string): Promise<void>;
  /** Resolves after so many more handshakes, give or take ten. */
  more(handshakes: number): Promise<void>;
  /** Ends it. Rejects if it does not end in order. */
  stop(): Promise<void>;
}

/** What a peer has counted, and who waits for an issuer. */
class Counts {
  readonly failures: string[] = [];
  #handshakes = 0;
  #awaited: { readonly count: number; readonly wake: () => void }[] = [];
  readonly #seen = new Set<string>();
  readonly #waiting = new Map<string, (() => void)[]>();

  get handshakes(): number {
    return this.#handshakes;
  }

  set handshakes(count: number) {
    this.#handshakes = count;
    for (const { count: awaited, wake } of this.#awaited) if (count >= awaited) wake();
    this.#awaited = this.#awaited.filter(({ count: awaited }) => count < awaited);
  }

  more(handshakes: number): Promise<void> {
    return new Promise((wake) => {
      this.#awaited.push({ count: this.#handshakes + handshakes, wake });
    });
  }

  see(side: string, keyId: string): void {
    const key = `${side} ${keyId}`;
    this.#seen.add(key);
    for (const wake of this.#waiting.get(key) ?? []) wake();
    this.#waiting.delete(key);
  }

  saw(side: Side, keyId: string): Promise<void> {
    const key = `${side} ${keyId}`;
    if (this.#seen.has(key)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), resolve]);
    });
  }
}

type Line = Readonly<Record<string, unknown>>;

/** A process that prints JSON lines: its address, failures, issuers, and a summary at its end. */
export class PeerProcess implements Peer {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #counts = new Counts();
  readonly #ended: Promise<number | null>;
  readonly #address = Promise.withResolvers<string>();
  #hasSummary = false;
  #stderr = "";

  constructor(name: string, [program, ...args]: readonly [string, ...string[]]) {
    this.name = name;
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.#child = child;
    const kill = () => child.kill("SIGKILL");
    process.once("exit", kill);
    let rest = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = `${rest}${chunk}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#read(line);
    });
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      this.#stderr = `${this.#stderr}${chunk}`.slice(-10_000);
    });
    this.#ended = new Promise((resolve) => {
      child.once("close", (code) => {
        process.removeListener("exit", kill);
        this.#address.reject(new Error(`${name} ended with ${code}: ${this.#stderr}`));
        resolve(code);
      });
    });
    this.#address.promise.catch(() => undefined);
  }

  /** The host and port of a server. @throws {Error} if it ends before it listens */
  get address(): Promise<string> {
    return this.#address.promise;
  }

  get handshakes(): number {
    return this.#counts.handshakes;
  }

  get failures(): readonly string[] {
    return this.#counts.failures;
  }

  get stderr(): string {
    return this.#stderr;
  }

  async saw(side: Side, keyId: string): Promise<void> {
    await Promise.race([this.#counts.saw(side, keyId), this.#early()]);
  }

  async more(handshakes: number): Promise<void> {
    await Promise.race([this.#counts.more(handshakes), this.#early()]);
  }

  async #early(): Promise<never> {
    const code = await this.#ended;
    return fail(`${this.name} ended with ${code}: ${this.#stderr}`);
  }

  async stop(): Promise<void> {
    this.#child.stdin?.end();
    const code = await this.#ended;
    if (code !== 0 || !this.#hasSummary)
      fail(`${this.name} ended with ${code} without a summary: ${this.#stderr}`);
  }

  #read(text: string): void {
    const line: Line = text.startsWith("{") ? (JSON.parse(text) as Line) : {};
    switch (line.event) {
      case "listening":
        this.#address.resolve(String(line.address));
        break;
      case "issuer":
        this.#counts.see(String(line.side), String(line.issuer));
        break;
      case "count":
        this.#counts.handshakes = Number(line.handshakes);
        break;
      case "failure":
        this.#counts.failures.push(`${String(line.at)} ${String(line.error)}`);
        break;
      case "summary":
        this.#hasSummary = true;
        this.#counts.handshakes = Number(line.handshakes);
        break;
      default:
        this.#stderr += `${text}\n`;
    }
  }
}

/** The pause from the begin of one handshake to that of the next one. */
const EVERY_MS = 100;
/** Of one client process. Far above what one takes, since the machine may be busy. */
const PATIENCE_MS = 20_000;

/** A client that is started for each handshake. */
export class RepeatedClient implements Peer {
  readonly name: string;
  readonly #counts = new Counts();
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  /**
   * @param command a client that ends with 0 after a handshake and an exchange; asked for before
   * each.
   * @param leaf finds the PEM of the server's leaf in what the client printed; null if it does not
   * print it.
   */
  constructor(
    name: string,
    command: () => readonly [string, ...string[]],
    leaf: ((stdout: string) => string) | null,
  ) {
    this.name = name;
    this.#done = this.#run(command, leaf);
  }

  get handshakes(): number {
    return this.#counts.handshakes;
  }

  get failures(): readonly string[] {
    return this.#counts.failures;
  }

  saw(side: Side, keyId: string): Promise<void> {
    return this.#counts.saw(side, keyId);
  }

  more(handshakes: number): Promise<void> {
    return this.#counts.more(handshakes);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #run(
    command: () => readonly [string, ...string[]],
    leaf: ((stdout: string) => string) | null,
  ): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const next = Date.now() + EVERY_MS;
      const [program, ...args] = command();
      const error = await new Promise<string | null>((resolve) => {
        execFile(program, args, { timeout: PATIENCE_MS }, (failure, stdout, stderr) => {
          if (failure !== null) {
            resolve(`${failure.message} ${stderr}`);
            return;
          }
          if (leaf !== null) this.#counts.see("peer", issuerOf(leaf(stdout)));
          resolve(null);
        });
      });
      if (error === null) this.#counts.handshakes++;
      else this.#counts.failures.push(`${new Date().toISOString()} ${error}`);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - Date.now())));
    }
  }
}

/** The authority key ID of a leaf in colon hex, as Consul's SigningKeyID is written. */
export function issuerOf(pem: string): string {
  const { authorityKeyId } = readCertificatePem(pem);
  return authorityKeyId === null
    ? fail("The leaf has no authority key ID")
    : colonHex(authorityKeyId);
}
