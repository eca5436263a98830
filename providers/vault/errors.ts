/**
 * What can go wrong with Vault, told apart by what helps against it (vault.md §5).
 * @module
 */
import { ProviderError, RateLimitedError } from "../../src/core/errors.ts";

export type VaultReason =
  /** Vault is sealed, or not initialised. */
  | "sealed"
  /** No connection: refused, no address, reset. */
  | "unreachable"
  /** No answer within the time limit. What was asked for may have happened. */
  | "timeout"
  /** Its certificate is not to be trusted, or it does not trust ours. */
  | "tls"
  /** The address is not one that this server may ask. */
  | "not_allowed"
  /** There is no active node, or Vault failed inside (5xx). */
  | "failing"
  /** The token is unknown, expired or revoked, and there was no way to log in anew. */
  | "token_invalid"
  /** A login was refused: wrong credentials, or no such role. */
  | "login_refused"
  /** The token may not do this. */
  | "denied"
  /** Nothing is mounted there. */
  | "mount_missing"
  /** What is mounted there is of another type. */
  | "mount_type"
  | "namespace_missing"
  | "role_missing"
  /** There is no such issuer, key or path. */
  | "not_found"
  /** Vault refuses what was asked as it is (400, 405). */
  | "refused"
  /** An answer that is not of the form it must have. */
  | "answer";

/** How soon it may help to ask again, in milliseconds. */
const RETRY_MS = 5000;

/** Reasons that pass without anybody doing something about the request. */
const TRANSIENT: readonly VaultReason[] = [
  "sealed",
  "unreachable",
  "timeout",
  "failing",
  "token_invalid",
];

/** A call to Vault that failed. Its message has no token, no key and no body. */
export class VaultError extends ProviderError {
  readonly reason: VaultReason;
  /** Vault's status, or null where it gave none. */
  readonly status: number | null;

  constructor(reason: VaultReason, message: string, status: number | null = null, cause?: unknown) {
    const transient = TRANSIENT.includes(reason);
    super(
      reason === "answer"
        ? "provider_contract"
        : transient
          ? "provider_unavailable"
          : "provider_rejected",
      message,
      {
        ...(cause === undefined ? {} : { cause }),
        ...(transient ? { retryAfterMs: RETRY_MS } : {}),
      },
    );
    this.reason = reason;
    this.status = status;
  }
}

/** How long a line of Vault's is quoted. */
const MAX_QUOTE = 300;

/**
 * What an answer that is no success means.
 * @param call what was called, for example `POST pki/sign/leaf-cert`.
 */
export function answerError(
  call: string,
  status: number,
  errors: readonly string[],
  retryAfterMs: number | null,
): Error {
  const text = errors.join("; ").replace(/\s+/g, " ").trim();
  const said =
    text === ""
      ? `status ${status}`
      : `${status} ${JSON.stringify(redact(text).slice(0, MAX_QUOTE))}`;
  const failed = (reason: VaultReason, why: string) =>
    new VaultError(reason, `Vault: ${call}: ${why}`, status);
  // A quota's answer has no Retry-After by default (vault-observed.md §1).
  if (status === 429)
    return new RateLimitedError(
      retryAfterMs ?? 1000,
      "sign_rate_limited",
      `Vault: ${call}: its rate limit is reached, try again later`,
    );
  if (status === 503 && /sealed/i.test(text)) return failed("sealed", "Vault is sealed");
  if (status >= 500 || status === 412 || status === 472 || status === 473)
    return failed("failing", `Vault failed: ${said}`);
  if (status === 403)
    return failed(
      "denied",
      `permission denied: the token's policies do not allow it; or the namespace or the mount does not exist`,
    );
  if (status === 404 && /namespace not found/.test(text))
    return failed("namespace_missing", "the namespace does not exist");
  if (status === 404 && /no handler for route/.test(text))
    return failed("mount_missing", "nothing is mounted at this path");
  if (status === 404 && /unsupported path/.test(text))
    return failed(
      "mount_type",
      "what is mounted there has no such path: it is of another type or too old",
    );
  if (status === 404) return failed("not_found", `not found: ${said}`);
  if (status === 400 && /^unknown role/.test(text))
    return failed("role_missing", `the role does not exist: ${said}`);
  return failed("refused", `Vault refuses it: ${said}`);
}

/** Vault does not quote secrets, but a proxy before it might. */
function redact(text: string): string {
  return text
    .replace(/\b(?:hv[sbr]|[sbr])\.[A-Za-z0-9_-]{20,}/g, "…")
    .replace(/-----BEGIN[\s\S]*?(?:-----END[^-]*-----|$)/g, "…");
}
