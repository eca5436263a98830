/**
 * The secret of an auth method: the token with which Kubernetes is asked. It is stored sealed under
 * the access key, bound to where it goes, and shown as `hidden`; sent back as that, it stays what
 * it was as long as it goes to the same place.
 * @module
 */
import type { AuthMethod } from "../core/acl/types.ts";
import { RequestError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import { HIDDEN } from "../core/state.ts";
import type { AclReplica } from "./replica.ts";

/** The field that is secret, and those that say where it goes. */
const SECRET = "ServiceAccountJWT";
const TARGET = ["Host", "CACert"] as const;

export interface SealedText {
  readonly sealed: string;
}

type Config = AuthMethod["config"];

/** What sealed text is bound to. */
function contextOf({ name, config }: Pick<AuthMethod, "name" | "config">): string {
  return JSON.stringify([name, SECRET, ...TARGET.map((field) => config[field] ?? null)]);
}

function isSealed(value: unknown): value is SealedText {
  return (
    typeof value === "object" &&
    value !== null &&
    "sealed" in value &&
    typeof value.sealed === "string"
  );
}

/**
 * Seals what an operator sent. Its settings have been read, with `exposed`.
 * @param before the method that it replaces, or null.
 */
export async function sealMethod(
  method: AuthMethod,
  before: AuthMethod | null,
  replica: AclReplica,
  random: Random,
): Promise<AuthMethod> {
  const secret = method.config[SECRET];
  if (secret === HIDDEN)
    return { ...method, config: { ...method.config, [SECRET]: keptSecret(method, before) } };
  if (typeof secret !== "string" || secret === "") return method;
  const sealed = await replica.sealText(secret, contextOf(method), random);
  return { ...method, config: { ...method.config, [SECRET]: { sealed } satisfies SealedText } };
}

/** @throws {RequestError} `request_malformed` */
function keptSecret(method: AuthMethod, before: AuthMethod | null): SealedText {
  const kept = before?.config[SECRET];
  if (before === null || !isSealed(kept))
    throw malformed(`${SECRET} is "${HIDDEN}", and none is stored`);
  const moved = TARGET.filter((field) => method.config[field] !== before.config[field]);
  if (moved.length > 0)
    throw malformed(`${SECRET} is "${HIDDEN}", but ${moved.join(" and ")} changed: send it again`);
  return kept;
}

/**
 * The configuration as an operator sent it, to be read: `hidden` stands for what is stored.
 * @throws {RequestError}
 */
export function exposed(method: AuthMethod, before: AuthMethod | null): Config {
  const secret = method.config[SECRET];
  // Only text comes from outside; sealed text is ours.
  if (secret !== undefined && typeof secret !== "string")
    throw malformed(`${SECRET} must be a JWT`);
  return secret === HIDDEN
    ? { ...method.config, [SECRET]: keptSecret(method, before) }
    : method.config;
}

/**
 * Opens the secret of a method.
 * @throws {StoreError} `state_corrupt` if it was sealed for another place
 */
export async function openSecret(
  method: AuthMethod,
  token: string | SealedText,
  replica: AclReplica,
): Promise<string> {
  return typeof token === "string" ? token : replica.openText(token.sealed, contextOf(method));
}

/** A configuration as it is shown. */
export function hideSecrets(config: Config): Config {
  return config[SECRET] === undefined || config[SECRET] === ""
    ? config
    : { ...config, [SECRET]: HIDDEN };
}

function malformed(message: string): RequestError {
  return new RequestError("request_malformed", `Invalid auth method config: ${message}`);
}
