/**
 * Failures of Vault, by what an operator can do about them.
 * @module
 */
import { ProviderError, RateLimitedError } from "../../src/core/errors.ts";

export type VaultReason =
  /** Vault is sealed, or not initialized. */
  | "sealed"
  /** No connection: refused, no address, reset. */
  | "unreachable"
  /** No response within the time limit. The request may have had its effect. */
  | "timeout"
  /** Vault's certificate is not trusted, or Vault does not trust ours. */
  | "tls"
  /** The settings of this server do not allow the address. */
  | "not_allowed"
  /** There is no active node, or Vault failed internally (5xx). */
  | "failing"
  /** The token is unknown, expired or revoked, and no login gave another one. */
  | "token_invalid"
  /** A login was refused: wrong credentials, or no such role. */
  | "login_refused"
  /** The token's policies do not allow the call. */
  | "denied"
  /** Nothing is mounted at the path. */
  | "mount_missing"
  /** An engine of another type is mounted at the path. */
  | "mount_type"
  | "namespace_missing"
  | "role_missing"
  /** There is no such issuer, key or path. */
  | "not_found"
  /** Vault refuses the request as it is (400, 405). */
  | "refused"
  /** A response in an unexpected format. */
  | "malformed_response";

/** When a retry may help, in milliseconds. */
const RETRY_MS = 5000;

/** Reasons that end without a change of the request. */
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
  /** Vault's status, or null without a response. */
  readonly status: number | null;

  constructor(reason: VaultReason, message: string, status: number | null = null, cause?: unknown) {
    const isTransient = TRANSIENT.includes(reason);
    const rejected = isTransient ? "provider_unavailable" : "provider_rejected";
    super(reason === "malformed_response" ? "provider_contract" : rejected, message, {
      ...(cause === undefined ? {} : { cause }),
      ...(isTransient ? { retryAfterMs: RETRY_MS } : {}),
    });
    this.reason = reason;
    this.status = status;
  }
}

/** For callers of leaves, if the text of a failure may name servers or files of the machine. */
const FOR_CALLERS: Partial<Record<VaultReason, string>> = {
  unreachable: "Vault cannot be reached",
  timeout: "Vault does not answer in time",
  tls: "TLS cannot be established with Vault",
  not_allowed: "Vault's address or a file is not allowed",
  login_refused: "Login to Vault failed",
};

/** A failure as a caller of leaves may see it; the log gets its own text. */
export function forCaller(error: unknown): unknown {
  const text = error instanceof VaultError ? FOR_CALLERS[error.reason] : undefined;
  if (!(error instanceof VaultError) || text === undefined) return error;
  const { code, retryAfterMs, message } = error;
  const options = { cause: error, retryAfterMs, logged: message };
  return new ProviderError(code, `${text}; the server's log has the details`, options);
}

/** Whether an error is one of Vault's with one of the reasons. */
export function failedBy(error: unknown, ...reasons: readonly VaultReason[]): error is VaultError {
  return error instanceof VaultError && reasons.includes(error.reason);
}

/** The result of a call, or null if it fails by one of the reasons. */
export async function nullIf<T>(call: Promise<T>, ...reasons: VaultReason[]): Promise<T | null> {
  try {
    return await call;
  } catch (error) {
    if (failedBy(error, ...reasons)) return null;
    throw error;
  }
}

/** The most characters of Vault's text that are quoted. */
const MAX_QUOTE = 300;

/** Text of Vault's for a log or an error, without what looks like a token or PEM. */
export function quote(text: string): string {
  return text
    .replace(/\s+/g, " ")
    .trim()
    .replace(/\b(?:hv[sbr]|[sbr])\.[A-Za-z0-9_-]{20,}/g, "…")
    .replace(/-----BEGIN[\s\S]*?(?:-----END[^-]*-----|$)/g, "…")
    .slice(0, MAX_QUOTE);
}

/**
 * The meaning of a response that is not a success.
 * @param call method and path, for example `POST pki/sign/leaf-cert`.
 * @param errors Vault's own texts.
 */
export function responseError(
  call: string,
  status: number,
  errors: readonly string[],
  retryAfterMs: number | null,
): Error {
  const text = errors.join("; ");
  const shown = text === "" ? `status ${status}` : `${status} ${JSON.stringify(quote(text))}`;
  const failed = (reason: VaultReason, why: string) =>
    new VaultError(reason, `Vault: ${call}: ${why}`, status);
  // The response to an exceeded quota has no Retry-After by default.
  if (status === 429)
    return new RateLimitedError(
      retryAfterMs ?? 1000,
      "sign_rate_limited",
      `Vault: ${call}: the rate limit quota of Vault is exceeded; try again later, or raise the quota`,
    );
  if (status === 503 && /sealed/i.test(text))
    return failed("sealed", "Vault is sealed; unseal it (vault operator unseal)");
  if (status >= 500 || status === 412 || status === 472 || status === 473)
    return failed("failing", `Vault failed: ${shown}; see the log of Vault`);
  if (status === 403)
    return failed(
      "denied",
      "permission denied; the policies of the token do not allow the call, or the namespace or the mount does not exist",
    );
  if (status === 404 && /namespace not found/.test(text))
    return failed("namespace_missing", "the namespace does not exist; create or correct it");
  if (status === 404 && /no handler for route/.test(text))
    return failed(
      "mount_missing",
      "nothing is mounted at this path; mount an engine or correct it",
    );
  if (status === 404 && /unsupported path/.test(text))
    return failed(
      "mount_type",
      "the engine at this path does not have the call: its type is another, or it is too old",
    );
  if (status === 404) return failed("not_found", `not found: ${shown}`);
  if (status === 400 && /^unknown role/.test(text.trim()))
    return failed("role_missing", `the role does not exist: ${shown}`);
  return failed("refused", `Vault refused the request: ${shown}`);
}
