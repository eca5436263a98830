/**
 * What the token of a caller of the agent allows, as the CA servers answer it. A certificate with its
 * private key is handed out only after this: Consul's agents check the first caller of a certificate
 * only, and hand the key to every later one.
 * @module
 */
import { ClientError } from "../../client/errors.ts";
import type { ServerPool } from "../../client/server-pool.ts";
import { type AccessLevel, ANONYMOUS, type Resource } from "../../core/acl/authorizer.ts";
import { concat, hex, sha256, utf8 } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import type { Clock, Random } from "../../core/ports/clock.ts";
import { AgentRefusal, RETRY_MS } from "./refusal.ts";

const AUTHORIZE = "/v1/internal/acl/authorize";
const SELF = "/v1/acl/token/self";
/** The whole body of a server without access control (agent/acl_endpoint.go). */
const DISABLED = "ACL support disabled";
const UNBELIEVED =
  "a server answers that access control is off, which was on since the agent started; without TLS any local user could answer that, so restart the agent if it was switched off";
/** How long an answer is used, in milliseconds: a right that was given is used soon. */
const [ALLOWED_MS, DENIED_MS] = [30_000, 5000];
/** How long an answer is used while no server can be asked, in milliseconds. */
const AWAY_MS = 300_000;
/** Answers kept; those of tokens that anybody makes up do not displace the others. */
const [MAX_ALLOWED, MAX_DENIED] = [10_000, 1000];
const LIMITS = { timeoutMs: 10_000, maxBytes: 64 * 1024 };
/** A secret as servers accept it: at most 128 characters, and nothing that a header cannot carry. */
const SECRET = /^[\x21-\x7e]{1,128}$/;

/** A right, as Consul's policies have it. */
export interface Right {
  readonly resource: Resource;
  readonly level: AccessLevel;
  /** "" for a resource without names. */
  readonly name: string;
}

/** The text of a denial, or null. */
type Answer = string | null;

interface Kept {
  readonly denial: Answer;
  readonly at: number;
}

interface CallerRightsOptions {
  readonly pool: Pick<ServerPool, "request">;
  /**
   * Whether every server proves by TLS that it is one. Any user can listen on the port of a server of
   * this machine that has ended, and answer by plain HTTP that access control is off.
   */
  readonly areVerified: boolean;
  readonly clock: Clock;
  readonly random: Random;
}

/** What the routes need to know of a caller. */
export interface Rights {
  /**
   * Requires a right of the caller's token.
   * @param token null: the request has none.
   * @returns the age of the answer in milliseconds, or null if a server was asked for this request.
   * @throws {AgentRefusal} 403 with Consul's text; 429 or 503 if it cannot be known
   */
  require(token: string | null, right: Right): Promise<number | null>;
  /** Whether the servers have access control on. @throws {AgentRefusal} 503 if it cannot be known */
  isEnforced(): Promise<boolean>;
}

/** The rights of a server without access control, which is in this process. */
export const NO_ACCESS_CONTROL: Rights = {
  require: async () => 0,
  isEnforced: async () => false,
};

export class CallerRights implements Rights {
  readonly #options: CallerRightsOptions;
  /** Digests are under a key of this process: no token is kept, and none can be tried against them. */
  readonly #key: Uint8Array;
  readonly #allowed = new Map<string, Kept>();
  readonly #denied = new Map<string, Kept>();
  readonly #asking = new Map<string, Promise<Answer>>();
  /** Whether access control is on, as a server answered last; null before the first answer. */
  #state: { readonly isOn: boolean; readonly at: number } | null = null;

  constructor(options: CallerRightsOptions) {
    this.#options = options;
    this.#key = options.random.bytes(32);
  }

  async require(token: string | null, right: Right): Promise<number | null> {
    const presented = token === ANONYMOUS.secret || token === "" ? null : token;
    if (presented !== null && !SECRET.test(presented)) throw tokenUnknown();
    const state = this.#state;
    if (state?.isOn === false && this.#isFresh(state.at, ALLOWED_MS)) return this.#ageOf(state.at);
    const key = this.#digest(presented, right);
    const kept = this.#allowed.get(key) ?? this.#denied.get(key);
    if (kept !== undefined && this.#isFresh(kept.at, kept.denial === null ? ALLOWED_MS : DENIED_MS))
      return this.#use(kept);
    try {
      const denial = await this.#share(key, () => this.#ask(presented, right));
      if (denial !== null) throw new AgentRefusal(403, denial);
      return null;
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (kept !== undefined && this.#isFresh(kept.at, AWAY_MS)) return this.#use(kept);
      // Without access control there is nothing to check, and nothing that a server could withdraw.
      if (this.#state?.isOn === false) return this.#ageOf(this.#state.at);
      throw unknown(error);
    }
  }

  async isEnforced(): Promise<boolean> {
    const state = this.#state;
    if (state !== null && this.#isFresh(state.at, ALLOWED_MS)) return state.isOn;
    try {
      const isOn = (await this.#send(null, "[]", () => true)) !== "off";
      this.#noteState(isOn);
      return isOn;
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (state !== null) return state.isOn;
      throw unknown(error);
    }
  }

  #now(): number {
    const { clock } = this.#options;
    return clock.monotonicMs?.() ?? clock.now().getTime();
  }

  #ageOf(at: number): number {
    return Math.max(0, this.#now() - at);
  }

  /** After a clock was set back the age is unknown. */
  #isFresh(at: number, forMs: number): boolean {
    const age = this.#now() - at;
    return age >= 0 && age < forMs;
  }

  #use({ denial, at }: Kept): number {
    if (denial !== null) throw new AgentRefusal(403, denial);
    return this.#ageOf(at);
  }

  #digest(token: string | null, { resource, level, name }: Right): string {
    const text = JSON.stringify([token, resource, level, name]);
    return hex(sha256(concat(this.#key, utf8(text))));
  }

  /** Single-flight: concurrent callers with the same token and question share the answer. */
  #share(key: string, ask: () => Promise<Answer>): Promise<Answer> {
    let asking = this.#asking.get(key);
    if (asking === undefined) {
      asking = ask()
        .then((denial) => {
          this.#keep(key, denial);
          return denial;
        })
        .finally(() => this.#asking.delete(key));
      this.#asking.set(key, asking);
    }
    return asking;
  }

  #keep(key: string, denial: Answer): void {
    this.#allowed.delete(key);
    this.#denied.delete(key);
    const [kept, most] =
      denial === null ? [this.#allowed, MAX_ALLOWED] : [this.#denied, MAX_DENIED];
    const [oldest] = kept.size >= most ? kept.keys() : [];
    if (oldest !== undefined) kept.delete(oldest);
    kept.set(key, { denial, at: this.#now() });
  }

  /** @throws {ClientError} */
  async #ask(token: string | null, right: Right): Promise<Answer> {
    const { resource, level, name } = right;
    const question = {
      Resource: resource,
      ...(name === "" ? {} : { Segment: name }),
      Access: level,
    };
    try {
      const answer = await this.#send(token, JSON.stringify([question]), readAllow);
      this.#noteState(answer !== "off");
      return answer === "off" || answer ? null : await this.#denialOf(token, right);
    } catch (error) {
      // The token is unknown, deleted or expired.
      if (error instanceof ClientError && error.status === 403)
        return error.text ?? tokenUnknown().message;
      throw error;
    }
  }

  /** @returns what the answer says, or "off" without access control. @throws {ClientError} */
  async #send(
    token: string | null,
    body: string,
    read: (body: string) => boolean,
  ): Promise<boolean | "off"> {
    try {
      return await this.#options.pool.request({
        method: "POST",
        path: AUTHORIZE,
        headers: { "Content-Type": "application/json", ...headerOf(token) },
        body,
        ...LIMITS,
        read: (response) => read(response.body),
      });
    } catch (error) {
      // Any other 401 is not the server's: a proxy that asks for a password must open nothing.
      if (error instanceof ClientError && error.status === 401 && error.text === DISABLED) {
        if (this.#options.areVerified || this.#state?.isOn !== true) return "off";
        throw new ClientError("untrusted", UNBELIEVED);
      }
      throw error;
    }
  }

  #noteState(isOn: boolean): void {
    this.#state = { isOn, at: this.#now() };
    if (isOn) return;
    this.#allowed.clear();
    this.#denied.clear();
  }

  /** Consul's text (acl/errors.go), for which the accessor of the token is looked up. */
  async #denialOf(token: string | null, { resource, level, name }: Right): Promise<string> {
    const what = `'${resource}:${level}'${name === "" ? "" : ` on ${JSON.stringify(name)}`}`;
    if (token === null)
      return `Permission denied: anonymous token lacks permission ${what}. The anonymous token is used implicitly when a request does not specify a token.`;
    const accessor = await this.#options.pool.request({
      method: "GET",
      path: SELF,
      headers: headerOf(token),
      ...LIMITS,
      read: ({ body }) => readAccessor(body),
    });
    return `Permission denied: token with AccessorID '${accessor}' lacks permission ${what}`;
  }
}

function headerOf(token: string | null): Readonly<Record<string, string>> {
  return token === null ? {} : { "X-Consul-Token": token };
}

/** Consul's text. */
function tokenUnknown(): AgentRefusal {
  return new AgentRefusal(403, "ACL not found");
}

function unknown(error: ClientError): AgentRefusal {
  const isLimit = error.code === "limited";
  return new AgentRefusal(
    isLimit ? 429 : 503,
    `Cannot check what the token of the request allows: ${error.message}`,
    error.retryAfterMs ?? RETRY_MS,
  );
}

/** The one answer of a list. @throws {FormatError} */
function readAllow(body: string): boolean {
  const answers = readJson(body);
  const [answer] = Array.isArray(answers) && answers.length === 1 ? (answers as unknown[]) : [];
  if (typeof answer === "object" && answer !== null && "Allow" in answer) {
    if (typeof answer.Allow === "boolean") return answer.Allow;
  }
  throw new FormatError("the answer to what a token allows has an unexpected format");
}

/** @throws {FormatError} */
function readAccessor(body: string): string {
  const token = readJson(body);
  if (typeof token === "object" && token !== null && "AccessorID" in token) {
    const { AccessorID } = token;
    if (typeof AccessorID === "string" && /^[0-9a-f-]{36}$/.test(AccessorID)) return AccessorID;
  }
  throw new FormatError("the token of a caller has an unexpected format");
}

/** @throws {FormatError} */
function readJson(body: string): unknown {
  try {
    return JSON.parse(body) as unknown;
  } catch {
    throw new FormatError("the response is not JSON");
  }
}
