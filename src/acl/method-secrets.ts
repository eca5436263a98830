/**
 * The secret of an auth method: the service account token for Kubernetes' TokenReview. It is stored
 * encrypted under the ACL key, bound to the method, Host and CACert, and shown as `hidden`; an
 * operator who sends `hidden` back keeps it, unless one of these changes.
 * @module
 */
import type { AuthMethod } from "../core/acl/types.ts";
import { RequestError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import { HIDDEN } from "../core/state.ts";
import type { AclReplica } from "./replica.ts";

/** The secret field, and those that name its receiver. */
const SECRET = "ServiceAccountJWT";
const TARGET = ["Host", "CACert"] as const;

export interface SealedText {
  readonly sealed: string;
}

type Config = AuthMethod["config"];

/** What the encryption of the secret is bound to. */
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
 * Encrypts the secret of a method that an operator sent, after `exposed` has checked it.
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
    throw malformed(`${SECRET} is "${HIDDEN}", but no ${SECRET} is stored; send it`);
  const moved = TARGET.filter((field) => method.config[field] !== before.config[field]);
  if (moved.length > 0)
    throw malformed(`${SECRET} is "${HIDDEN}", but ${moved.join(" and ")} changed: send it again`);
  return kept;
}

/**
 * The configuration that an operator sent, with the stored secret instead of `hidden`.
 * @throws {RequestError}
 */
export function exposed(method: AuthMethod, before: AuthMethod | null): Config {
  const secret = method.config[SECRET];
  // An operator sends text; only the store has it encrypted.
  if (secret !== undefined && typeof secret !== "string")
    throw malformed(`${SECRET} must be a JWT`);
  return secret === HIDDEN
    ? { ...method.config, [SECRET]: keptSecret(method, before) }
    : method.config;
}

/**
 * Decrypts the secret of a method.
 * @throws {StoreError} `state_corrupt` if it was encrypted for another receiver
 */
export async function openSecret(
  method: AuthMethod,
  token: string | SealedText,
  replica: AclReplica,
): Promise<string> {
  return typeof token === "string" ? token : replica.openText(token.sealed, contextOf(method));
}

/** A configuration without its secret. */
export function hideSecrets(config: Config): Config {
  return config[SECRET] === undefined || config[SECRET] === ""
    ? config
    : { ...config, [SECRET]: HIDDEN };
}

function malformed(message: string): RequestError {
  return new RequestError("request_malformed", `Invalid auth method config: ${message}`);
}
